"""A folder of images as it is, judged before anything is configured or taken in; nothing is written."""
