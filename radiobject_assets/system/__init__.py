"""What the machine gives: files that are written whole (`durable_files`, `publishing`), file locks (`locks`),
temporary and staging folders (`temporary`), cores and forks (`processes`), memory (`memory`),
what a process tree takes (`resource_monitor`).

Nothing here knows of images, stores or training. Only this room asks for file locks (`fcntl.flock`) and to be
told of forks (`os.register_at_fork`).
"""
