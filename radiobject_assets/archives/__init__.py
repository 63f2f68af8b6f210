"""From archives into a landing zone: DICOMweb servers that are asked, senders that are heard (C-STORE).

What comes is counted: a study is an arrival when everything that the archive announces of it lies on the
disk, and not before. Until then it lies in a hidden folder of the landing zone.
"""
