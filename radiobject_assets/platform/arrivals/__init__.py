"""What is known of each arrival: wanted, achieved, tried; kept beside the store, and compared at each tick.

`reconciling` is the idea: a pure function that asks again for whatever is neither achieved nor in a run that
lives. `looking` says what lies in the landing zone, `runs` what Dagster's records tell of runs,
`arrival_table` keeps what is known, and `left_behind` says what of it a person should know. Assets and
sensors are elsewhere.
"""
