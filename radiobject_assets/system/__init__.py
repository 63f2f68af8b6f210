"""What the machine gives: files that are written whole, file locks, temporary and staging folders, processor
cores, memory, and what a fork leaves of a process.

Nothing here knows of images, stores or training. Only this room asks for file locks (`fcntl`) and to be told
of forks (`os.register_at_fork`).
"""
