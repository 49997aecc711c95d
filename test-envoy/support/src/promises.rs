//! The rows of `docs/faults.md`. The test that checks a promise writes its row.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use serde_json::json;

/// Writes one row. It is called after the last assertion of the test that checks the promise.
/// `figure` is what the test asserts (a count, a bound), not what one run measured. So the table is
/// the same on every machine.
pub fn held(subject: &str, promise: &str, tried: &str, figure: &str) {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/promises"
    ));
    let mut hasher = DefaultHasher::new();
    (subject, promise).hash(&mut hasher);
    let row = json!({
        "subject": subject,
        "promise": promise,
        "tried": tried,
        "figure": figure,
    });
    fs::create_dir_all(folder).expect("a folder for the rows");
    let path = folder.join(format!("{:016x}.json", hasher.finish()));
    fs::write(path, row.to_string()).expect("a row that can be written");
}
