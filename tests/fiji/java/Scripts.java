import java.io.File;
import org.scijava.Context;
import org.scijava.MenuPath;
import org.scijava.script.ScriptInfo;
import org.scijava.script.ScriptService;

/** Finds scripts as Fiji does, says where they stand in its menu, and runs those that are named. */
public class Scripts {
    public static void main(String[] arguments) {
        File app = new File(arguments[0]);
        try (Context context = new Context(ScriptService.class)) {
            ScriptService scripts = context.service(ScriptService.class);
            // The folders that imagej-legacy and scijava-common search in Fiji.
            scripts.addScriptDirectory(new File(app, "plugins/Scripts"));
            scripts.addScriptDirectory(new File(app, "plugins"), new MenuPath("Plugins"));
            for (ScriptInfo info : scripts.getScripts()) {
                System.out.println("MENU " + info.getMenuPath().getMenuString(false)
                    + " > " + info.getMenuPath().getLeaf().getName());
            }
            for (int k = 1; k < arguments.length; k++) {
                System.out.println("BEGIN " + arguments[k]);
                try {
                    scripts.run(new File(app, arguments[k]), true).get();
                    System.out.println("END " + arguments[k]);
                } catch (Throwable error) {
                    System.out.println("FAILED " + error);
                }
            }
        }
        System.out.println("DONE");
        System.exit(0);
    }
}
