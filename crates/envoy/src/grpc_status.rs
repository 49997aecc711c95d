//! The status codes of gRPC ("Status codes and their use in gRPC":
//! <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).

macro_rules! codes {
    ($($name:ident = $code:literal,)*) => {
        $(#[doc = concat!("The code ", stringify!($code), ".")] pub const $name: u32 = $code;)*

        /// The names of the codes, in their order from 0.
        pub const NAMES: [&str; 17] = [$(stringify!($name)),*];

        // The place of each name is its code.
        const _: () = {
            let codes = [$($code),*];
            let mut i = 0;
            let mut rest: &[usize] = &codes;
            while let [code, others @ ..] = rest {
                assert!(*code == i);
                rest = others;
                i += 1;
            }
        };
    };
}

codes! {
    OK = 0,
    CANCELLED = 1,
    UNKNOWN = 2,
    INVALID_ARGUMENT = 3,
    DEADLINE_EXCEEDED = 4,
    NOT_FOUND = 5,
    ALREADY_EXISTS = 6,
    PERMISSION_DENIED = 7,
    RESOURCE_EXHAUSTED = 8,
    FAILED_PRECONDITION = 9,
    ABORTED = 10,
    OUT_OF_RANGE = 11,
    UNIMPLEMENTED = 12,
    INTERNAL = 13,
    UNAVAILABLE = 14,
    DATA_LOSS = 15,
    UNAUTHENTICATED = 16,
}
