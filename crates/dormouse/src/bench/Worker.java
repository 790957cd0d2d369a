// A function for the bench, as worker.py is one, for Java: a map of records with strings, a request a connection.
//
// usage: Worker NAME SOCKET WARM_UP_CALLS

import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Collectors;

final class Worker {
    record Person(int age, List<String> tags) {}

    private static final Map<String, Person> PEOPLE = new LinkedHashMap<>();
    private static final List<String> NAMES;

    static {
        var draw = new Random(7);
        for (int i = 0; i < 20_000; i++) {
            var tags = List.of(Integer.toString(draw.nextInt(), 36), Integer.toString(draw.nextInt(), 36));
            PEOPLE.put("person-" + i, new Person(i % 90, tags));
        }
        NAMES = new ArrayList<>(PEOPLE.keySet());
    }

    private static String answer(int n) throws GeneralSecurityException {
        var chosen = NAMES.subList(n % 100, n % 100 + 200).stream().map(Worker::json);
        byte[] json = chosen.collect(Collectors.joining(",", "{", "}")).getBytes(StandardCharsets.UTF_8);
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(json));
    }

    private static String json(String name) {
        Person person = PEOPLE.get(name);
        String tags = person.tags().stream().map(tag -> '"' + tag + '"').collect(Collectors.joining(","));
        return String.format("\"%s\":{\"age\":%d,\"tags\":[%s]}", name, person.age(), tags);
    }

    private static void serve(SocketChannel connection) throws IOException, GeneralSecurityException {
        var request = ByteBuffer.allocate(64);
        while (connection.read(request) > 0 && request.get(request.position() - 1) != '\n') {
            // The line may come in pieces.
        }
        String line = new String(request.array(), 0, request.position(), StandardCharsets.UTF_8).trim();
        if (!line.isEmpty()) {
            String answer = answer(Integer.parseInt(line)) + "\n";
            connection.write(ByteBuffer.wrap(answer.getBytes(StandardCharsets.UTF_8)));
        }
    }

    public static void main(String[] args) throws IOException, GeneralSecurityException {
        for (int n = 0; n < Integer.parseInt(args[2]); n++) {
            answer(n);
        }
        var listener = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
        listener.bind(UnixDomainSocketAddress.of(args[1]));
        while (true) {
            try (var connection = listener.accept()) {
                serve(connection);
            }
        }
    }
}
