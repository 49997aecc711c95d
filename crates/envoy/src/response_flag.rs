//! The response flags in the form of the attribute `response.flags`: one bit for each, in the order
//! of Envoy's `CoreResponseFlag` and of `envoy.data.accesslog.v3.ResponseFlags`.

macro_rules! flags {
    ($($name:ident = $bit:literal, $short:literal;)*) => {
        $(
            #[doc = concat!("`", $short, "` in access logs.")]
            pub const $name: u64 = 1 << $bit;
        )*

        /// The short names that access logs use, by bit.
        pub const SHORT_NAMES: [&str; 30] = [$($short),*];

        // The place of each name is its bit.
        const _: () = {
            let bits = [$($bit),*];
            let mut i = 0;
            let mut rest: &[usize] = &bits;
            while let [bit, others @ ..] = rest {
                assert!(*bit == i);
                rest = others;
                i += 1;
            }
        };
    };
}

flags! {
    FAILED_LOCAL_HEALTH_CHECK = 0, "LH";
    NO_HEALTHY_UPSTREAM = 1, "UH";
    UPSTREAM_REQUEST_TIMEOUT = 2, "UT";
    LOCAL_RESET = 3, "LR";
    UPSTREAM_REMOTE_RESET = 4, "UR";
    UPSTREAM_CONNECTION_FAILURE = 5, "UF";
    UPSTREAM_CONNECTION_TERMINATION = 6, "UC";
    UPSTREAM_OVERFLOW = 7, "UO";
    NO_ROUTE_FOUND = 8, "NR";
    DELAY_INJECTED = 9, "DI";
    FAULT_INJECTED = 10, "FI";
    RATE_LIMITED = 11, "RL";
    UNAUTHORIZED_EXTERNAL_SERVICE = 12, "UAEX";
    RATE_LIMIT_SERVICE_ERROR = 13, "RLSE";
    DOWNSTREAM_CONNECTION_TERMINATION = 14, "DC";
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 15, "URX";
    STREAM_IDLE_TIMEOUT = 16, "SI";
    INVALID_ENVOY_REQUEST_HEADERS = 17, "IH";
    DOWNSTREAM_PROTOCOL_ERROR = 18, "DPE";
    UPSTREAM_MAX_STREAM_DURATION_REACHED = 19, "UMSDR";
    RESPONSE_FROM_CACHE_FILTER = 20, "RFCF";
    NO_FILTER_CONFIG_FOUND = 21, "NFCF";
    DURATION_TIMEOUT = 22, "DT";
    UPSTREAM_PROTOCOL_ERROR = 23, "UPE";
    NO_CLUSTER_FOUND = 24, "NC";
    OVERLOAD_MANAGER = 25, "OM";
    DNS_RESOLUTION_FAILED = 26, "DF";
    DROP_OVERLOAD = 27, "DO";
    DOWNSTREAM_REMOTE_RESET = 28, "DR";
    UNCONDITIONAL_DROP_OVERLOAD = 29, "UDO";
}
