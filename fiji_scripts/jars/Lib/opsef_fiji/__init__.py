"""What the OpSeF commands of ImageJ and Fiji share.

Python 2.7 for Jython, pure ASCII, Java 8. `pixels`, `model`, `zips`, `asking`, `client`,
`invitation`, `online`, `offline`, `waiting` and `tables` need no ImageJ; the others do.
"""
API = 1
