//! What was rendered.

use serde_json::Value;

use super::refusal::Refused;
use crate::yaml;

/// Everything that a set-up is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// What all of it is for: `Istio: 1.29`, `Tracer: otel`. `meshtrace check` reads these lines at
    /// the head of a file.
    pub head: Vec<String>,
    /// The pieces, each for a place of its own.
    pub pieces: Vec<Piece>,
}

/// One piece of a rendering: a file, if it is written to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The name of a file, such as `trace-context-otel-early.yaml`.
    pub name: String,
    /// Who reads it.
    pub kind: Kind,
    /// Where it goes, or what it is for: one line without an end.
    pub purpose: String,
    /// YAML without comments before it; documents are divided by `---`.
    pub content: String,
    /// What it does not do, or does otherwise than the filter: a sentence each.
    pub notes: Vec<String>,
}

/// Who reads a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Envoy: a part of its configuration, to be merged into yours.
    Envoy,
    /// Kubernetes: `kubectl apply`.
    Resource,
    /// Istio: a part of the mesh configuration, which is no resource.
    MeshConfig,
}

impl Piece {
    pub(super) fn new(
        kind: Kind,
        name: impl Into<String>,
        purpose: impl Into<String>,
        values: &[Value],
    ) -> Result<Self, Refused> {
        let documents = values.iter().map(yaml::document);
        let documents = documents.collect::<Result<Vec<_>, _>>();
        Ok(Self {
            name: format!("{}.yaml", name.into()),
            kind,
            purpose: capitalised(purpose.into()),
            content: documents.map_err(Refused::new)?.join("---\n"),
            notes: Vec::new(),
        })
    }

    pub(super) fn with_notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// The piece with its purpose before it and its notes behind it, as comments.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut text = yaml::comment(&self.purpose, "");
        match self.kind {
            Kind::MeshConfig => {
                for line in self.content.lines() {
                    text.push_str(&format!("# {line}\n"));
                }
            }
            Kind::Envoy | Kind::Resource => text.push_str(&self.content),
        }
        if !self.notes.is_empty() {
            text.push_str("# Limits:\n");
        }
        for note in &self.notes {
            text.push_str(&yaml::comment(&format!("- {note}"), "  "));
        }
        text
    }
}

impl Rendering {
    /// All pieces as one text. What `kubectl apply` does not take (the mesh configuration) is in
    /// comments.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut text = self.head_lines();
        for (place, piece) in self.pieces.iter().enumerate() {
            // Comments are no document of their own.
            text.push_str(match (place, piece.kind) {
                (0, _) => "",
                (_, Kind::MeshConfig) => "\n",
                _ => "---\n",
            });
            text.push_str(&piece.to_yaml());
        }
        text
    }

    /// One of the pieces as the text of a file.
    #[must_use]
    pub fn file(&self, piece: &Piece) -> String {
        let mut text = self.head_lines();
        text.push_str(&yaml::comment(&piece.purpose, ""));
        text.push_str(&piece.content);
        for note in &piece.notes {
            text.push_str(&yaml::comment(&format!("- {note}"), "  "));
        }
        text
    }

    fn head_lines(&self) -> String {
        self.head.iter().map(|line| format!("# {line}\n")).collect()
    }
}

fn capitalised(text: String) -> String {
    match text.split_at_checked(1) {
        // A filter's name stays as it is.
        Some((first, rest))
            if !text
                .split(' ')
                .next()
                .is_some_and(|word| word.contains('_')) =>
        {
            first.to_ascii_uppercase() + rest
        }
        _ => text,
    }
}
