// A cluster client of Java, Lettuce, that does what it is told: HOST PORT PROTOCOL, then lines of words.
// Each line is answered by a line of JSON; see `test_cluster_clients.py` for the words.

import io.lettuce.core.ReadFrom;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.RedisURI;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.cluster.ClusterClientOptions;
import io.lettuce.core.cluster.ClusterTopologyRefreshOptions;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.api.StatefulRedisClusterConnection;
import io.lettuce.core.cluster.models.partitions.RedisClusterNode;
import io.lettuce.core.cluster.pubsub.RedisClusterPubSubAdapter;
import io.lettuce.core.cluster.pubsub.StatefulRedisClusterPubSubConnection;
import io.lettuce.core.protocol.ProtocolVersion;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Function;
import java.util.stream.Collectors;

class Conversation {
    static final String SCRIPT = "return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}";

    final RedisClusterClient client;
    final StatefulRedisClusterConnection<String, String> connection;
    final String sha;

    Conversation(String host, int port, int protocol) {
        client = RedisClusterClient.create(RedisURI.create(host, port));
        client.setOptions(ClusterClientOptions.builder()
            .protocolVersion(protocol == 2 ? ProtocolVersion.RESP2 : ProtocolVersion.RESP3)
            .topologyRefreshOptions(ClusterTopologyRefreshOptions.builder().enableAllAdaptiveRefreshTriggers().build())
            .build());
        connection = client.connect();
        connection.setReadFrom(ReadFrom.REPLICA);
        sha = connection.sync().scriptLoad(SCRIPT);
    }

    Object say(String word, String[] rest) throws Exception {
        var commands = connection.async();
        return switch (word) {
            case "ports" -> client.getPartitions().stream().map(node -> node.getUri().getPort()).sorted().toList();
            case "set" -> all(Arrays.copyOfRange(rest, 1, rest.length), key -> commands.set(key, rest[0]));
            case "get" -> all(rest, commands::get);
            case "lengths" -> all(rest, commands::strlen);
            case "add" -> all(rest, key -> commands.<List<Object>>evalsha(sha, ScriptOutputType.MULTI, new String[] {key}, "2"));
            case "tell" -> tell(rest);
            default -> throw new IllegalArgumentException(word);
        };
    }

    /** Sends a command for each key at once, and returns the replies. */
    <T> List<T> all(String[] keys, Function<String, RedisFuture<T>> command) throws Exception {
        List<RedisFuture<T>> replies = new ArrayList<>();
        for (String key : keys) replies.add(command.apply(key));
        List<T> told = new ArrayList<>();
        for (RedisFuture<T> reply : replies) told.add(reply.get());
        return told;
    }

    List<String> tell(String[] channels) throws Exception {
        List<String> told = new ArrayList<>();
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        try (StatefulRedisClusterPubSubConnection<String, String> listener = client.connectPubSub()) {
            listener.addListener(new RedisClusterPubSubAdapter<String, String>() {
                @Override
                public void smessage(RedisClusterNode node, String channel, String message) {
                    heard.add(message);
                }
            });
            listener.setNodeMessagePropagation(true);
            for (String channel : channels) {
                listener.sync().ssubscribe(channel);
                connection.sync().spublish(channel, "to " + channel);
                told.add(heard.take());
            }
        }
        return told;
    }

    static String json(Object value) {
        if (value instanceof List<?> list) {
            return list.stream().map(Conversation::json).collect(Collectors.joining(", ", "[", "]"));
        }
        return value == null || value instanceof Number ? String.valueOf(value) : "\"" + value + "\"";
    }

    public static void main(String[] arguments) throws Exception {
        var conversation = new Conversation(arguments[0], Integer.parseInt(arguments[1]), Integer.parseInt(arguments[2]));
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            String[] words = line.split(" ");
            System.out.println(json(conversation.say(words[0], Arrays.copyOfRange(words, 1, words.length))));
        }
        System.exit(0); // Lettuce takes two seconds to end in order.
    }
}
