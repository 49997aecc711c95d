//! The filters, as the command line names them.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use meshtrace_check::Filter;

/// Reads a filter's name, with dashes or underscores.
pub(crate) fn parser() -> impl TypedValueParser<Value = Filter> {
    let value = |filter: Filter| {
        let name = filter.name();
        PossibleValue::new(name.replace('_', "-"))
            .alias(name)
            .help(format!("{name}.wasm"))
    };
    PossibleValuesParser::new(Filter::ALL.map(value))
        .try_map(|name| Filter::named(&name).ok_or("not a filter"))
}
