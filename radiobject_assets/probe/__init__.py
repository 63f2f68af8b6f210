"""Why a loader dies: any PyTorch loader, run in child processes item by item and stage by stage until the
cause has a name.

The probe's own process never runs what is probed; `child` and what it imports do. torch is an extra that only
they need.
"""
