//! The imports that the host crate must never call.

/// What only the SDK's own functions import: the host crate must never get there.
macro_rules! never_called {
    ($($function:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $function() -> u32 {
                eprintln!("{} was called", stringify!($function));
                std::process::abort();
            }
        )*
    };
}

never_called! {
    proxy_close_stream
    proxy_continue_stream
    proxy_dequeue_shared_queue
    proxy_enqueue_shared_queue
    proxy_get_header_map_value
    proxy_get_log_level
    proxy_get_metric
    proxy_get_status
    proxy_grpc_call
    proxy_grpc_cancel
    proxy_grpc_close
    proxy_grpc_send
    proxy_grpc_stream
    proxy_register_shared_queue
    proxy_resolve_shared_queue
    proxy_send_local_response
    proxy_set_buffer_bytes
    proxy_set_effective_context
    proxy_set_header_map_pairs
}
