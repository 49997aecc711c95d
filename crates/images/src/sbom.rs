//! The bill of materials: SPDX 2.3 in JSON. It lists the packages that are linked into a module.

#![expect(
    clippy::indexing_slicing,
    reason = "a key of a `serde_json::Value` is added where it is not there"
)]

use serde_json::{Value, json};

use crate::project::Packed;

/// The document for a module with this SHA-256 (hex).
pub(crate) fn spdx(packed: &Packed, module: &str, created: &str) -> Value {
    let root = format!("{}-{}", packed.package, packed.version);
    let packages: Vec<_> = packed
        .dependencies
        .packages
        .iter()
        .map(|(id, package)| {
            let mut described = json!({
                "SPDXID": reference(id),
                "name": package.name,
                "versionInfo": package.version,
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": false,
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": package.licence,
                "copyrightText": "NOASSERTION",
            });
            if package.published {
                described["externalRefs"] = json!([{
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": format!("pkg:cargo/{}@{}", package.name, package.version),
                }]);
            }
            if *id == root {
                described["checksums"] = json!([{
                    "algorithm": "SHA256",
                    "checksumValue": module,
                }]);
            }
            described
        })
        .collect();
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": reference(&root),
    })];
    relationships.extend(packed.dependencies.edges.iter().map(|(from, to)| {
        json!({
            "spdxElementId": reference(from),
            "relationshipType": "DEPENDS_ON",
            "relatedSpdxElement": reference(to),
        })
    }));
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": root,
        // Each module has its own namespace, as the specification requires, and always the same
        // one.
        "documentNamespace": format!("https://spdx.org/spdxdocs/{root}-{module}"),
        "creationInfo": {
            "created": created,
            "creators": [concat!("Tool: meshtrace-images-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relationships,
    })
}

/// An SPDX identifier has letters, digits, dots and dashes.
fn reference(id: &str) -> String {
    let id: String = id
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    format!("SPDXRef-{id}")
}
