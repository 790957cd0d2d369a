// Answers questions about an order book that it parses at the start, and speaks the Lambda Runtime API by itself.
//
// Shows a virtual machine with a dozen threads, code compiled as it runs, and a heap whose objects move.

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;

final class Main {
    record Order(int number, String customer, String item, long cents) {
        /** From a line such as `17,customer-4,item-8,1999`. */
        static Order parse(String line) {
            String[] cells = line.split(",");
            return new Order(Integer.parseInt(cells[0]), cells[1], cells[2], Long.parseLong(cells[3]));
        }
    }

    private static final int ORDERS = 40_000;
    private static final int CUSTOMERS = 500;
    private static final int ITEMS = 50;
    private static final Pattern NUMBER = Pattern.compile("\"n\"\\s*:\\s*(\\d{1,9})");
    private static final Pattern VERIFY = Pattern.compile("\"verify\"\\s*:\\s*true");

    private static final Map<String, List<Order>> BY_CUSTOMER = lines(new Random(1))
            .map(Order::parse)
            .collect(Collectors.groupingBy(Order::customer, TreeMap::new, Collectors.toList()));

    private static Stream<String> lines(Random draw) {
        return IntStream.range(0, ORDERS).mapToObj(number -> String.join(",",
                Integer.toString(number),
                "customer-" + draw.nextInt(CUSTOMERS),
                "item-" + draw.nextInt(ITEMS),
                Integer.toString(draw.nextInt(100_000))));
    }

    /** `{"n": k}`: hash of what customer k spent on each item. `{"verify": true}`: hash of the whole book. */
    static String handle(String event) {
        if (VERIFY.matcher(event).find()) {
            return "{\"sha256\": \"" + sha256(BY_CUSTOMER.toString()) + "\"}";
        }
        var found = NUMBER.matcher(event);
        int n = found.find() ? Integer.parseInt(found.group(1)) : 0;
        Map<String, Long> spent = BY_CUSTOMER.get("customer-" + n % CUSTOMERS).stream()
                .collect(Collectors.groupingBy(Order::item, TreeMap::new, Collectors.summingLong(Order::cents)));
        return "{\"n\": " + n + ", \"answer\": \"" + sha256(spent.toString()) + "\"}";
    }

    private static String sha256(String text) {
        try {
            byte[] hash = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(hash);
        } catch (NoSuchAlgorithmException impossible) {
            throw new AssertionError(impossible); // Every Java has it.
        }
    }

    public static void main(String[] args) throws IOException, InterruptedException {
        String api = "http://" + System.getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/";
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        while (true) {
            HttpResponse<String> next = send(client, HttpRequest.newBuilder(URI.create(api + "next")).build());
            String id = next.headers().firstValue("lambda-runtime-aws-request-id").orElseThrow();
            String verb = "response";
            String said;
            try {
                said = handle(next.body());
            } catch (RuntimeException error) {
                verb = "error";
                said = "{\"errorType\": \"" + error.getClass().getName() + "\", \"errorMessage\": \"it failed\"}";
            }
            var body = HttpRequest.BodyPublishers.ofString(said);
            send(client, HttpRequest.newBuilder(URI.create(api + id + "/" + verb)).POST(body).build());
        }
    }

    private static HttpResponse<String> send(HttpClient client, HttpRequest request)
            throws IOException, InterruptedException {
        return client.send(request, HttpResponse.BodyHandlers.ofString());
    }
}
