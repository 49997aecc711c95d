//! A module driven as a host drives it: through its exports.

use meshtrace_host::new_root;
use meshtrace_pipeline::Composition;

use super::host;

pub(crate) const CONTINUE: u32 = 0;

unsafe extern "C" {
    fn proxy_on_context_create(context: u32, parent: u32);
    fn proxy_on_vm_start(context: u32, size: usize) -> bool;
    fn proxy_on_configure(context: u32, size: usize) -> bool;
    fn proxy_on_request_headers(context: u32, count: usize, end_of_stream: bool) -> u32;
    fn proxy_on_delete(context: u32);
}

/// Creates root context `root` and configures it with `json`, as one more plugin of the VM.
pub(crate) fn configure_as<C: Composition>(root: u32, json: &str) -> bool {
    host(|host| {
        host.configuration = json.into();
        let name = format!("plugin-{root}");
        host.properties.insert(b"plugin_name".into(), name.into());
    });
    proxy_wasm::set_root_context(new_root::<C>);
    unsafe {
        proxy_on_context_create(root, 0);
        assert!(proxy_on_vm_start(root, 0));
        reconfigure(root, json)
    }
}

pub(crate) fn reconfigure(root: u32, json: &str) -> bool {
    host(|host| host.configuration = json.into());
    unsafe { proxy_on_configure(root, json.len()) }
}

/// Runs one request through the plugin of `root` and returns what the filter answers.
pub(crate) fn request(root: u32, headers: &[(&str, &[u8])]) -> u32 {
    host(|host| {
        host.calls.clear();
        host.forget_requests();
        host.request_headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
            .collect();
    });
    const STREAM: u32 = 1000;
    unsafe {
        proxy_on_context_create(STREAM, root);
        let action = proxy_on_request_headers(STREAM, headers.len(), true);
        proxy_on_delete(STREAM);
        action
    }
}
