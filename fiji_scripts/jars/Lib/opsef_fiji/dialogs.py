"""Dialogs that the Recorder understands, and progress that Esc stops."""
from ij import IJ, Macro
from ij.gui import GenericDialog
from ij.plugin.frame import Recorder
from java.awt.event import TextListener
from java.lang import Runnable, RuntimeException, Thread, Throwable

from opsef_fiji.trouble import Cancelled, Trouble


class Form(object):
    """A dialog. The first word of each label is its key in macros, so no two may be equal."""

    def __init__(self, title):
        self.dialog = GenericDialog("OpSeF: " + title)
        self.reads, self.words = [], set()

    def say(self, text):
        self.dialog.addMessage(text)
        return self

    def text(self, label, value="", columns=24):
        self._field(label, self.dialog.getNextString)
        self.dialog.addStringField(label, value or "", columns)
        return self

    def file(self, label, value=""):
        return self._place(label, value, "addFileField")

    def folder(self, label, value=""):
        return self._place(label, value, "addDirectoryField")

    def number(self, label, value, digits=0, unit=""):
        self._field(label, self.dialog.getNextNumber)
        self.dialog.addNumericField(label, value, digits, 8, unit)
        return self

    def choice(self, label, items, value=None):
        self._field(label, self.dialog.getNextChoice)
        self.dialog.addChoice(label, items, value if value in items else items[0])
        return self

    def turns_to(self, item):
        """Have the last choice say item as soon as something is put into the last text field."""
        choices, fields = self.dialog.getChoices(), self.dialog.getStringFields()
        if choices and fields:
            fields.lastElement().addTextListener(Turning(choices.lastElement(), item))
        return self

    def tick(self, label, value=False):
        self._field(label, self.dialog.getNextBoolean)
        self.dialog.addCheckbox(label, value)
        return self

    def help(self, page):
        """Have a button Help that shows a page of HTML."""
        self.dialog.addHelp(page)
        return self

    def ask(self):
        """Show it; return the values in the order of the fields. Cancel raises Cancelled."""
        self.dialog.showDialog()
        if self.dialog.wasCanceled():
            raise Cancelled()
        return [read() for read in self.reads]

    def _place(self, label, value, method):
        self._field(label, self.dialog.getNextString)
        # An old Fiji has no button to browse; then the path is typed.
        add = getattr(self.dialog, method, None) or self.dialog.addStringField
        add(label, value or "", 30)
        return self

    def _field(self, label, read):
        word = label.split()[0].lower()
        if word in self.words:
            raise AssertionError("two fields begin with " + word)
        self.words.add(word)
        self.reads.append(read)


class Turning(TextListener):
    """Turns a choice to an item when a text is changed: what was just named is what is meant."""

    def __init__(self, choice, item):
        self.choice, self.item = choice, item

    def textValueChanged(self, event):
        if event.getSource().getText():
            self.choice.select(self.item)


class Progress(object):
    """The status bar and the progress bar; Esc is seen once."""

    def __init__(self, title):
        self.title = title
        IJ.resetEscape()

    def progress(self, current, maximum, message):
        IJ.showStatus("%s: %s (Esc stops)" % (self.title, message))
        if maximum:
            IJ.showProgress(min(1.0, float(current) / maximum))

    def escaped(self):
        return IJ.escapePressed()

    def done(self):
        IJ.showProgress(1.0)
        IJ.showStatus("")


def show_trouble(trouble):
    IJ.log("OpSeF: " + trouble.text().replace("\n \n", " -- "))
    IJ.error("OpSeF", trouble.text())


def guarded(title, action, *arguments):
    """Do something; show what goes wrong in plain words."""
    try:
        return action(*arguments)
    except Cancelled:
        IJ.showStatus("OpSeF %s: cancelled" % title)
    except Trouble as trouble:
        show_trouble(trouble)
    except RuntimeException as error:
        if error.getMessage() == Macro.MACRO_CANCELED:
            raise
        _unexpected(title, error)
    except (Exception, Throwable) as error:
        _unexpected(title, error)
    return None


def _unexpected(title, error):
    import traceback

    IJ.log("OpSeF %s:\n%s" % (title, traceback.format_exc()))
    show_trouble(Trouble(
        "%s stopped unexpectedly: %s" % (title, error),
        "Please send the text of the Log window to who runs the service.",
    ))


def record(command, options):
    """Write a command into the Recorder, as if it had been chosen from the menu."""
    if Recorder.record and not Macro.getOptions():
        Recorder.recordString('run("%s", "%s");\n' % (command, options))


def option(name):
    """Return what a macro says besides the fields of a dialog."""
    options = Macro.getOptions()
    return Macro.getValue(options, name, "") if options else ""


def record_option(name, value):
    """Record what a dialog was not asked for, beside its fields."""
    if value and Recorder.record and not Macro.getOptions():
        Recorder.recordOption(name, value)


class Aside(Runnable):
    def __init__(self, title, action, arguments):
        self.title, self.action, self.arguments = title, action, arguments

    def run(self):
        guarded(self.title, self.action, *self.arguments)


def aside(title, action, *arguments):
    """Do something beside the thread of the windows: a hung tunnel must not freeze ImageJ."""
    thread = Thread(Aside(title, action, arguments), "OpSeF")
    thread.setDaemon(True)
    thread.start()
