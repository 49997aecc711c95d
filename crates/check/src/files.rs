//! The given files: their trees, and the documents in texts within them.

use std::collections::HashMap;

use crate::document::{self, Language, Node, Position, SyntaxError, Tree};
use crate::versions::Versions;

/// A file to check.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name, as findings show it.
    pub name: String,
    /// The content of the file.
    pub bytes: Vec<u8>,
}

/// A scalar: the number of its tree, and of its node in that tree.
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
                    files.trees.push(tree.of_input(place, place, ""));
                }
                Err(error) => {
                    files.versions.push(Versions::default());
                    errors.push((place, error));
                }
            }
        }
        let mut within = Within {
            trees: HashMap::new(),
            next: inputs.len(),
        };
        for tree in &files.trees {
            within.read(tree, MAX_WITHIN, &|at| at);
        }
        files.within = within.trees;
        (files, errors)
    }

    /// The document within a scalar, or the reason why it is not one.
    pub(crate) fn within(&self, scalar: Node<'_>) -> Option<&Result<Tree, SyntaxError>> {
        self.within.get(&scalar.id())
    }
}

/// The most texts within each other that are read: a ConfigMap with an Envoy's configuration, which
/// has a filter's.
const MAX_WITHIN: usize = 3;

/// The documents within scalars, while they are read.
struct Within {
    trees: HashMap<Key, Result<Tree, SyntaxError>>,
    /// The number of the next tree.
    next: usize,
}

impl Within {
    /// Reads the documents in the scalars of `tree`, and those in their scalars, so many times.
    /// `place` makes positions in the file of positions in the tree.
    fn read(&mut self, tree: &Tree, times: usize, place: &dyn Fn(Position) -> Position) {
        for map in tree.maps() {
            for (scalar, language) in texts_within(map) {
                let (read, own) = document::read_within(scalar, language);
                let place = |at| place(own(at));
                let number = self.next;
                self.next += 1;
                let read = match read {
                    Ok(tree) => {
                        let tree = tree.of_input(scalar.input(), number, &scalar.path());
                        if times > 1 {
                            self.read(&tree, times - 1, &place);
                        }
                        Ok(tree.moved(place))
                    }
                    Err(error) => Err(SyntaxError {
                        at: place(error.at),
                        ..error
                    }),
                };
                self.trees.insert(scalar.id(), read);
            }
        }
    }
}

/// The scalars below a map that contain documents.
fn texts_within(map: Node<'_>) -> Vec<(Node<'_>, Language)> {
    if map.type_url() == Some("google.protobuf.StringValue") {
        let is_configuration = matches!(
            map.key(),
            Some("configuration" | "tracer_config" | "tracerConfig")
        );
        let value = map.get_exactly("value").filter(|_| is_configuration);
        let value = value.filter(|value| value.scalar().is_some());
        return value
            .map(|value| (value, Language::Json))
            .into_iter()
            .collect();
    }
    let scalars: Vec<_> = match map.get_exactly("kind").and_then(Node::scalar) {
        Some("ConfigMap") => {
            let files = map.get_exactly("data").into_iter().flat_map(Node::entries);
            files
                .filter(|(name, _)| {
                    *name == "mesh"
                        || [".yaml", ".yml", ".json"]
                            .iter()
                            .any(|ending| name.ends_with(ending))
                })
                .map(|(_, text)| text)
                .collect()
        }
        Some("EnvoyProxy") => map
            .at(&["spec", "bootstrap", "value"])
            .into_iter()
            .collect(),
        _ => Vec::new(),
    };
    scalars
        .into_iter()
        .filter(|scalar| scalar.text().is_some())
        .map(|scalar| (scalar, Language::Yaml))
        .collect()
}
