import java.util.Collections;
import java.util.List;
import org.scijava.plugin.Plugin;
import org.scijava.script.AdaptedScriptLanguage;
import org.scijava.script.ScriptLanguage;

/** What Fiji's scripting-jython is, as far as our scripts need it: .py files are Jython's. */
@Plugin(type = ScriptLanguage.class, name = "Python (Jython)")
public class Python extends AdaptedScriptLanguage {
    public Python() {
        super("jython");
    }

    @Override
    public List<String> getExtensions() {
        return Collections.singletonList("py");
    }
}
