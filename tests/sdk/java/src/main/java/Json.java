import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** Writes texts, numbers, lists and maps as JSON. */
final class Json {
  private Json() {}

  static String of(Object value) {
    if (value instanceof Map<?, ?> map) {
      return map.entrySet().stream()
          .map(entry -> of(entry.getKey().toString()) + ":" + of(entry.getValue()))
          .collect(Collectors.joining(",", "{", "}"));
    }
    if (value instanceof List<?> list) {
      return list.stream().map(Json::of).collect(Collectors.joining(",", "[", "]"));
    }
    return value instanceof Number ? value.toString() : text(value.toString());
  }

  private static String text(String text) {
    StringBuilder written = new StringBuilder("\"");
    for (char unit : text.toCharArray()) {
      if (unit == '"' || unit == '\\') {
        written.append('\\').append(unit);
      } else if (unit < ' ') {
        written.append(String.format("\\u%04x", (int) unit));
      } else {
        written.append(unit);
      }
    }
    return written.append('"').toString();
  }
}
