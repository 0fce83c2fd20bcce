# Plugins > OpSeF > Correct Next: what to correct next, best first; a double click opens it.
import sys

from ij import IJ


def main():
    library = IJ.getDirectory("imagej") + "jars/Lib"
    if library not in sys.path:
        sys.path.insert(0, library)
    try:
        from opsef_fiji import commands
    except ImportError as error:
        IJ.error("OpSeF", "The OpSeF library is missing: %s\n \nUnpack fiji.zip again, "
                 "so that %s/opsef_fiji is there." % (error, library))
        return
    commands.run("Correct_Next")


main()
