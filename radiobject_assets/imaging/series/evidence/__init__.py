"""What headers prove about the planes of a series: which belong together, in which order, and what a fourth
axis is.

1. `rules` is the table: what may differ between planes of one volume, what makes another volume, what is
   another point of the fourth axis, what is a contradiction. docs/reference/evidence.md is made of it.
2. `dividing` applies it to the planes of a series.
3. `stacking` orders the planes of each part along its normal.
4. `fourth_axis` orders several planes at one position, and says what the axis is.
5. `siblings` asks afterwards whether parts are one stack: no part is taken in without its rest.
6. `agreement` takes over what all planes of a volume say.
"""
