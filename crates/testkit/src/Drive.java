// Calls examples/functions/java without the Lambda API: one event in JSON a line, one answer a line.
//
// `java Drive.java FOLDER --socket PATH`. Compiles the function into this very process, so that the compiler's memory
// sleeps and wakes with it, and leaves no file.

import java.io.BufferedReader;
import java.lang.reflect.Method;
import java.net.URL;
import java.net.URLClassLoader;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import javax.tools.ToolProvider;

final class Drive {
    public static void main(String[] args) throws Exception {
        Method handle = load(Path.of(args[0], "Main.java")).getDeclaredMethod("handle", String.class);
        handle.setAccessible(true);
        try (var line = SocketChannel.open(UnixDomainSocketAddress.of(args[2]))) {
            say(line, "ready");
            var events = new BufferedReader(Channels.newReader(line, StandardCharsets.UTF_8));
            for (String event = events.readLine(); event != null; event = events.readLine()) {
                say(line, (String) handle.invoke(null, event));
            }
        }
    }

    private static void say(SocketChannel line, String text) throws Exception {
        line.write(ByteBuffer.wrap((text + "\n").getBytes(StandardCharsets.UTF_8)));
    }

    /** The class `Main`, initialised; also those beside it, as their files go. */
    private static Class<?> load(Path source) throws Exception {
        Path folder = Files.createTempDirectory("drive-");
        var compiler = ToolProvider.getSystemJavaCompiler();
        if (compiler.run(null, null, null, "-d", folder.toString(), source.toString()) != 0) {
            throw new IllegalStateException("compile " + source);
        }
        List<Path> compiled;
        try (var files = Files.list(folder)) {
            compiled = files.collect(Collectors.toList());
        }
        var loader = new URLClassLoader(new URL[] {folder.toUri().toURL()});
        for (Path file : compiled) {
            Class.forName(file.getFileName().toString().replace(".class", ""), true, loader);
        }
        for (Path file : compiled) {
            Files.delete(file);
        }
        Files.delete(folder);
        return Class.forName("Main", true, loader);
    }
}
