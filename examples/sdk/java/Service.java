import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.concurrent.Executors;

/** Asks the next service, where NEXT has its address, and says who answered. Knows nothing of tracing. */
public class Service {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();

    private static String ask(String next) throws IOException {
        if (next == null) {
            return "java";
        }
        try {
            var request = HttpRequest.newBuilder(URI.create(next)).build();
            return "java " + CLIENT.send(request, BodyHandlers.ofString()).body();
        } catch (InterruptedException interrupted) {
            throw new IOException(interrupted);
        }
    }

    public static void main(String[] arguments) throws IOException {
        var port = Integer.parseInt(System.getenv("PORT"));
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            var text = ask(System.getenv("NEXT")).getBytes();
            exchange.sendResponseHeaders(200, text.length);
            exchange.getResponseBody().write(text);
            exchange.close();
        });
        server.start();
    }
}
