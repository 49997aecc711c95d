//! The given files: their trees, and the documents in texts within them.

use std::collections::HashMap;

use crate::document::{self, Language, Node, SyntaxError, Tree};
use crate::versions::Versions;

/// A file to check.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name, as findings show it.
    pub name: String,
    /// The content of the file.
    pub bytes: Vec<u8>,
}

/// The place of a scalar: its file, and its node in that file.
type Key = (usize, u32);

/// The files that were read.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) trees: Vec<Tree>,
    /// For each input, the versions that the head of the file names.
    pub(crate) versions: Vec<Versions>,
    /// The documents within scalars.
    within: HashMap<Key, Result<Tree, SyntaxError>>,
}

impl Files {
    /// Reads all files. The second value has those that cannot be read, by the place of the input.
    pub(crate) fn read(inputs: &[Input]) -> (Self, Vec<(usize, SyntaxError)>) {
        let mut files = Self::default();
        let mut errors = Vec::new();
        for (place, input) in inputs.iter().enumerate() {
            match document::read(&input.name, &input.bytes) {
                Ok(tree) => {
                    let dumped = Versions::of_dump(&tree);
                    files
                        .versions
                        .push(Versions::of_head(tree.source()).or(dumped));
                    files.trees.push(tree.of_input(place, ""));
                }
                Err(error) => {
                    files.versions.push(Versions::default());
                    errors.push((place, error));
                }
            }
        }
        let mut within = HashMap::new();
        for map in files.trees.iter().flat_map(Tree::maps) {
            let Some((scalar, language)) = text_within(map) else {
                continue;
            };
            let tree = document::read_within(scalar, language)
                .map(|tree| tree.of_input(scalar.input(), &scalar.path()));
            within.insert((scalar.input(), scalar.id()), tree);
        }
        files.within = within;
        (files, errors)
    }

    /// The document within a scalar, or the reason why it is not one.
    pub(crate) fn within(&self, scalar: Node<'_>) -> Option<&Result<Tree, SyntaxError>> {
        self.within.get(&(scalar.input(), scalar.id()))
    }
}

/// The scalar below a map that contains a document.
fn text_within(map: Node<'_>) -> Option<(Node<'_>, Language)> {
    if map.type_url() == Some("google.protobuf.StringValue") {
        let is_configuration = matches!(
            map.key(),
            Some("configuration" | "tracer_config" | "tracerConfig")
        );
        let value = map.get_exactly("value").filter(|_| is_configuration)?;
        return Some((value, Language::Json)).filter(|(value, _)| value.scalar().is_some());
    }
    let scalar = match map.get_exactly("kind")?.scalar()? {
        "ConfigMap" => map.at(&["data", "mesh"])?,
        "EnvoyProxy" => map.at(&["spec", "bootstrap", "value"])?,
        _ => return None,
    };
    scalar.text().map(|_| (scalar, Language::Yaml))
}
