"""Work in processes of their own, under limits: what crashes, hangs or takes too much memory fails alone.

`pool.WorkerPool` hands tasks to worker processes and has their results as futures. `idle_processes` keeps
the processes, `process` is one of them as its parent has it, `serving` is what runs in it, and `channel` is
what the two say to each other over. `calls` lets a process call any function with any argument.
"""
