//! What every filter promises: bad configurations, what `meshtrace doctor` says, hostile requests, upgrades, header edits.

mod bad_configuration;
mod doctor;
mod framing_names;
mod header_edits;
mod hostile;
mod internal_redirect;
mod large_configuration;
mod log_lines;
mod released_modules;
mod request_headers;
mod reroute;
mod strict;
mod strict_upstream;
mod support_bundle;
mod upgrade;
mod warnings;
