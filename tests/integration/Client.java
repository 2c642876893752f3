import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Registers a client and a relay, and submits for both, with the JDK's HttpClient as it comes. */
public class Client {
    private static final HttpClient HTTP = HttpClient.newHttpClient();
    private static String url;

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        String admin = arguments[1];
        for (int n = 0; n < 5; n++) {
            String client = "{\"client_id\":\"j" + n + "\",\"name\":\"j\",\"type\":\"native\"}";
            String key = keyOf(post("/api/v1/clients/register", admin, client));
            post("/api/v1/clients/j" + n + "/metrics", key, "{\"metrics\":{\"bytes_sent\":1}}");
            String relay = keyOf(post("/api/v1/relays/register", admin, "{\"name\":\"r" + n + "\",\"scope\":\"all\"}"));
            String item = "{\"kind\":\"client\",\"id\":\"j" + n + "\",\"metrics\":{\"bytes_sent\":2}}";
            post("/api/v1/metrics", relay, "[" + item + "]");
        }
    }

    private static String post(String path, String token, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + path))
            .header("Authorization", "Bearer " + token)
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        HttpResponse<String> response = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(response.statusCode());
        if (response.statusCode() != 200) {
            throw new IllegalStateException(path + ": " + response.body());
        }
        return response.body();
    }

    private static String keyOf(String answer) {
        return answer.replaceAll(".*\"api_key\":\"([^\"]*)\".*", "$1");
    }
}
