//! A block of request headers as the host hands it over, and the edits to make to it.
