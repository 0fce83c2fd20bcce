"""A small window with the classes, their colours and counts; a click chooses one."""
from java.awt import Color, Frame, GridLayout, Label
from java.awt.event import MouseAdapter, WindowAdapter

from opsef_fiji.rois import colour_of

SHOWN = 8


class Legend(object):
    def __init__(self, session):
        self.session = session
        self.frame = Frame("Classes")
        self.labels = {}
        groups = sorted(set(range(0, SHOWN + 1)) | set(int(g) for g in session.names))
        self.frame.setLayout(GridLayout(len(groups), 1))
        for group in groups:
            label = Label("")
            colour = colour_of(group)
            label.setBackground(colour)
            bright = colour.getRed() * 3 + colour.getGreen() * 6 + colour.getBlue() > 1500
            label.setForeground(Color.black if bright else Color.white)
            label.addMouseListener(Choose(session, group))
            self.labels[group] = label
            self.frame.add(label)
        self.show(session.model.counts())
        self.frame.pack()
        self.frame.setSize(max(220, self.frame.getWidth()), self.frame.getHeight())
        window = session.image.getWindow()
        if window is not None:
            self.frame.setLocation(window.getX() + window.getWidth() + 4, window.getY())
        self.frame.addWindowListener(Gone(self))
        self.frame.setVisible(True)

    def show(self, counts):
        for group, label in self.labels.items():
            name = self.session.names.get(str(group)) or ("none" if not group else "")
            mark = ">" if group == self.session.brush else " "
            label.setText("%s %d %s: %d" % (mark, group, name, counts.get(group, 0)))

    def close(self):
        self.frame.dispose()


class Choose(MouseAdapter):
    def __init__(self, session, group):
        self.session, self.group = session, group

    def mouseClicked(self, event):
        self.session.brush = self.group
        self.session.tell("A click gives class %d" % self.group)


class Gone(WindowAdapter):
    def __init__(self, legend):
        self.legend = legend

    def windowClosing(self, event):
        session = self.legend.session
        session.legend = session.brush = None
        self.legend.close()
        session.tell("Clicks select again; Classify Objects gives classes.")
