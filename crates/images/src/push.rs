//! Pushes images to a registry, with the credentials of the usual Docker configuration.

use std::env;
use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use http::HeaderValue;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use crate::error::PushError;
use crate::layout::{ARTIFACT_SUFFIX, Image, Layout};

/// The longest tag, without the end that an artifact's tag has.
const LONGEST_TAG: usize = 128 - ARTIFACT_SUFFIX.len();

/// The place in a registry for the images of all filters and of the native tracer.
#[derive(Clone, Debug)]
pub struct Target {
    registry: String,
    namespace: String,
    tag: Option<String>,
    plain_http: bool,
}

/// An image that is in the registry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pushed {
    /// `host:port/namespace/filter:tag`.
    pub reference: String,
    /// The digest of the manifest: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

impl Target {
    /// A `registry` of the form `host[:port]/namespace`. Without a `tag` every image has the
    /// version of its filter. The connection uses plain HTTP for loopback addresses and where
    /// `plain_http` is set, and TLS for all other addresses.
    ///
    /// # Errors
    ///
    /// Where the registry or the tag has another form.
    pub fn new(registry: &str, tag: Option<&str>, plain_http: bool) -> Result<Self, PushError> {
        let refused = || PushError::Target(registry.to_owned());
        let (host, namespace) = registry
            .trim_end_matches('/')
            .split_once('/')
            .ok_or_else(refused)?;
        // A first part without a dot or a port is a namespace of Docker's own registry, which is
        // not supported here.
        let names_a_host = host.contains(['.', ':']) || host == "localhost";
        let probe = format!("{host}/{namespace}/filter:tag").parse::<Reference>();
        if !names_a_host || namespace.is_empty() || probe.is_err() {
            return Err(refused());
        }
        if let Some(tag) = tag {
            let probe = format!("{host}/{namespace}/filter:{tag}").parse::<Reference>();
            let whole = probe.is_ok_and(|reference| reference.tag() == Some(tag));
            if !whole || tag.len() > LONGEST_TAG {
                return Err(PushError::Tag(tag.to_owned()));
            }
        }
        Ok(Self {
            registry: host.to_owned(),
            namespace: namespace.to_owned(),
            tag: tag.map(ToOwned::to_owned),
            plain_http: plain_http || is_loopback(host),
        })
    }

    fn reference(&self, layout: &Layout, image: &Image) -> Reference {
        let tag = match &self.tag {
            None => image.tag.clone(),
            Some(tag) if image.tag.ends_with(ARTIFACT_SUFFIX) => format!("{tag}{ARTIFACT_SUFFIX}"),
            Some(tag) => tag.clone(),
        };
        let repository = format!("{}/{}", self.namespace, layout.name);
        Reference::with_tag(self.registry.clone(), repository, tag)
    }

    fn protocol(&self) -> ClientProtocol {
        if self.plain_http {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Pushes every image of `layout`, and reports each step through `progress`.
///
/// # Errors
/// What the registry, the network or the Docker configuration refuses. The images before that one
/// are then in the registry.
pub async fn push(
    layout: &Layout,
    target: &Target,
    mut progress: impl FnMut(&str),
) -> Result<Vec<Pushed>, PushError> {
    let (auth, known) = credentials(&target.registry)?;
    let client = Client::new(ClientConfig {
        protocol: target.protocol(),
        ..ClientConfig::default()
    });
    let manifest_type = HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
    let index_type = HeaderValue::from_static(OCI_IMAGE_INDEX_MEDIA_TYPE);
    let mut pushed = Vec::new();
    for image in &layout.images {
        let reference = target.reference(layout, image);
        let failed = |why| explain(why, target, &reference, known);
        progress(&reference.whole());
        client
            .auth(&reference, &auth, RegistryOperation::Push)
            .await
            .map_err(failed)?;
        for blob in &image.blobs {
            let name = format!("  {} ({})", short(&blob.digest), size(blob.size));
            let there = client
                .blob_exists(&reference, &blob.digest)
                .await
                .map_err(failed)?;
            if there {
                progress(&format!("{name}: is there"));
                continue;
            }
            progress(&format!("{name}: sending"));
            let content = layout.content(&blob.digest)?;
            client
                .push_blob(&reference, content, &blob.digest)
                .await
                .map_err(failed)?;
        }
        // A registry takes an index only after its manifests, which have no tag.
        for digest in &image.manifests {
            progress(&format!("  {}: manifest", short(digest)));
            let by_digest = reference.clone_with_digest(digest.clone());
            client
                .push_manifest_raw(&by_digest, layout.content(digest)?, manifest_type.clone())
                .await
                .map_err(failed)?;
        }
        let (what, media_type) = match image.media_type.as_str() {
            OCI_IMAGE_INDEX_MEDIA_TYPE => ("index", &index_type),
            _ => ("manifest", &manifest_type),
        };
        progress(&format!("  {}: {what}", short(&image.digest)));
        let manifest = layout.content(&image.digest)?;
        client
            .push_manifest_raw(&reference, manifest, media_type.clone())
            .await
            .map_err(failed)?;
        let found = client
            .fetch_manifest_digest(&reference, &auth)
            .await
            .map_err(failed)?;
        if found != image.digest {
            return Err(PushError::Digest {
                reference: reference.whole(),
                sent: image.digest.clone(),
                found,
            });
        }
        pushed.push(Pushed {
            reference: reference.whole(),
            digest: image.digest.clone(),
        });
    }
    Ok(pushed)
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

fn size(bytes: u64) -> String {
    if bytes < 10_000 {
        format!("{bytes} bytes")
    } else {
        format!("{} kB", bytes / 1000)
    }
}

/// The file with the credentials.
fn docker_config() -> String {
    let folder = env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".docker")));
    let file = folder.unwrap_or_default().join("config.json");
    file.display().to_string()
}

/// The credentials for `registry`, and whether there are any.
fn credentials(registry: &str) -> Result<(RegistryAuth, bool), PushError> {
    let config = docker_config();
    let refused = |why: String| PushError::Credentials {
        config: config.clone(),
        registry: registry.to_owned(),
        why,
    };
    if !PathBuf::from(&config).exists() {
        return Ok((RegistryAuth::Anonymous, false));
    }
    match docker_credential::get_credential(registry) {
        Ok(DockerCredential::UsernamePassword(name, password)) => {
            Ok((RegistryAuth::Basic(name, password), true))
        }
        Ok(DockerCredential::IdentityToken(_)) => Err(refused(
            "it has an identity token, which this program cannot exchange; log in with a user name and a password \
             or an access token"
                .to_owned(),
        )),
        Err(CredentialRetrievalError::NoCredentialConfigured) => {
            Ok((RegistryAuth::Anonymous, false))
        }
        // Docker's own helpers return this for a registry without a login.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok((RegistryAuth::Anonymous, false))
        }
        Err(why) => Err(refused(why.to_string())),
    }
}

/// Makes an error for the user from the registry's error.
fn explain(
    why: OciDistributionError,
    target: &Target,
    reference: &Reference,
    known: bool,
) -> PushError {
    let registry = target.registry.clone();
    let config = docker_config();
    if is_refusal(&why) {
        return if known {
            PushError::Refused {
                registry,
                config,
                repository: reference.repository().to_owned(),
            }
        } else {
            PushError::NoCredentials { registry, config }
        };
    }
    match &why {
        OciDistributionError::RequestError(request) if request.is_connect() => {
            PushError::Unreachable {
                scheme: if target.plain_http { "http" } else { "https" },
                registry,
                why: innermost(request),
            }
        }
        OciDistributionError::RequestError(request) => PushError::Registry {
            registry,
            why: format!("{request}: {}", innermost(request)),
        },
        _ => PushError::Registry {
            registry,
            why: why.to_string(),
        },
    }
}

fn is_refusal(why: &OciDistributionError) -> bool {
    match why {
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_) => true,
        OciDistributionError::ServerError { code, .. } => matches!(code, 401 | 403),
        OciDistributionError::RequestError(request) => {
            let status = request.status().map(|status| status.as_u16());
            matches!(status, Some(401 | 403))
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            let mut codes = envelope.errors.iter().map(|error| &error.code);
            codes.any(|code| matches!(code, OciErrorCode::Unauthorized | OciErrorCode::Denied))
        }
        _ => false,
    }
}

/// The innermost cause. The errors around it only repeat the address.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_spoken_to_in_plain_http() {
        for (registry, plain) in [
            ("localhost:5000/mesh", true),
            ("127.0.0.1:5000/mesh", true),
            ("[::1]:5000/mesh", true),
            ("registry.example.com/mesh", false),
            ("10.0.0.1:5000/mesh", false),
        ] {
            match Target::new(registry, None, false) {
                Ok(target) => assert_eq!(target.plain_http, plain, "{registry}"),
                // The grammar of references has no IPv6 addresses.
                Err(why) => assert!(registry.starts_with('['), "{why}"),
            }
        }
    }

    #[test]
    fn what_names_no_registry_is_refused_with_an_example() {
        for registry in [
            "",
            "mesh",
            "registry.example.com",
            "https://registry.example.com/x",
            "mesh/x",
            "a.b/",
            "a.b/X",
        ] {
            let why = Target::new(registry, None, false)
                .expect_err(registry)
                .to_string();
            assert!(
                why.contains("such as registry.example.com/meshtrace"),
                "{why}"
            );
        }
        for tag in ["", "a/b", "a:b", "a b", "@", &"a".repeat(LONGEST_TAG + 1)] {
            let why = Target::new("a.b/c", Some(tag), false)
                .expect_err(tag)
                .to_string();
            assert!(why.starts_with("TAG is "), "{why}");
        }
    }
}
