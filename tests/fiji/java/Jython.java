import ij.IJ;
import ij.plugin.PlugInInterpreter;
import org.python.util.PythonInterpreter;

/** What ImageJ looks up to run .py files; its own download brings another of this name. */
public class Jython extends PlugInInterpreter {
    public String run(String script, String argument) {
        try (PythonInterpreter interpreter = new PythonInterpreter()) {
            interpreter.exec(script);
        } catch (Throwable error) {
            if (!String.valueOf(error).contains("Macro canceled")) {
                IJ.log("SCRIPT FAILED: " + error);
            }
        }
        return null;
    }

    public String getReturnValue() {
        return "";
    }

    public String getName() {
        return "Jython";
    }

    public String getImports() {
        return "";
    }

    public String getVersion() {
        return "2.7.4";
    }
}
