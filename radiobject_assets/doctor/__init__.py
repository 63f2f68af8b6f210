"""A store looked at whole, and mended: rules in an order, what was found, mends that may be interrupted.

Finding: `examined` says what is looked at, `examination` lists the rules (most of them are those of
`diagnostics`), `derived_rules` look at what was made of the store, `voxel_rounds` read every volume once.
Mending: `mending` chooses for each kind, `mend_tasks` does it in worker processes, `mend_journal` notes it.
"""
