"""What the server of forks imports before the first child: everything, and nothing that starts a thread."""

from tests.store.campaign.worker import preload

preload()
