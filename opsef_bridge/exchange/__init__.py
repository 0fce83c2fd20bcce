"""What comes from other programs and goes to them: AnnotatorJ, label files, the original OpSeF."""
