//! YAML with short comments.

use serde_json::Value;

/// The width of comments, in characters.
const WIDTH: usize = 100;

/// What a line says, where it begins so, behind it.
const BESIDE: [(&str, &str); 5] = [
    ("url: oci://registry.example.com/", "your registry: --url"),
    ("uri: oci://registry.example.com/", "your registry: --url"),
    ("sha256: \"0000000000", "--sha256"),
    (
        "filename: /etc/meshtrace/",
        "mounted: docs/istio.md, The module in a sidecar",
    ),
    (
        "failStrategy: FAIL_OPEN",
        "without its module requests pass as they are",
    ),
];

/// A document. A text of several lines is a block, no line is folded, and a header mutation has one
/// line.
pub(crate) fn document(value: &Value) -> Result<String, String> {
    let mut options = serde_saphyr::SerializerOptions::default();
    options.folded_wrap_chars = usize::MAX;
    let mut value = value.clone();
    let mut flows = Vec::new();
    take_mutations(&mut value, &mut flows);
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, &value, options)
        .map_err(|error| format!("the result cannot be written as YAML: {error}"))?;
    let mut flows = flows.into_iter();
    let line = |line: &str| match line.strip_suffix(FLOW) {
        Some(begin) => format!("{begin}{}\n", flows.next().unwrap_or_default()),
        None => beside(line),
    };
    Ok(text.lines().map(line).collect())
}

/// Stands for a mutation until the document is written.
const FLOW: &str = "meshtrace-flow";

/// Replaces each header mutation by [`FLOW`], in the order in which they are written.
fn take_mutations(value: &mut Value, flows: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::Array(list) if key == "mutations" || key == "request_mutations" => {
                        for mutation in list {
                            flows.push(flow(&mutation.take()));
                            *mutation = Value::from(FLOW);
                        }
                    }
                    field => take_mutations(field, flows),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| take_mutations(item, flows)),
        _ => {}
    }
}

/// A value in one line. JSON text is YAML in double quotes too.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{key}: {}", flow(value));
            let fields: Vec<_> = fields.iter().map(field).collect();
            format!("{{{}}}", fields.join(", "))
        }
        scalar => scalar.to_string(),
    }
}

fn beside(line: &str) -> String {
    let own = line.trim_start_matches([' ', '-']);
    let said = BESIDE.iter().find(|(begin, _)| own.starts_with(begin));
    match said {
        Some((_, comment)) => format!("{line}  # {comment}\n"),
        None => format!("{line}\n"),
    }
}

/// A text as comment lines; the second one and those after it begin with `indent`.
pub(crate) fn comment(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() >= WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = format!("#{indent}");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}
