"""ImageJ in a process of its own: the archives, and what is asked of it.

`opsef_bridge.imagej.ij1` runs inside the process that hosts the Java machine and is not
imported here: importing this package starts nothing and needs no Java.
"""

from opsef_bridge.imagej.jars import JARS, Jar, fetch_jar, find_jar, jar_folder

__all__ = ["JARS", "Jar", "fetch_jar", "find_jar", "jar_folder"]
