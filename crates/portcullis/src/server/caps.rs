//! How many connections a process of this many file descriptors may take. Without this the caps are
//! paper where a shell allows 1,024: one client that opens as many takes the last descriptor, and
//! with it the connection to the upstream and the listener of everybody else.

use portcullis_gateway::listen::Caps;

/// The caps where descriptors are plenty.
const MOST: Caps = Caps { connections: 20_000, per_address: 5_000 };

/// The caps of this process. Says so when they are lower than they could be.
pub(super) fn caps() -> Caps {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let Some(files) = open_files(&limits) else { return MOST };
    let caps = within(files);
    if caps.connections < MOST.connections {
        tracing::warn!(
            connections = caps.connections,
            per_address = caps.per_address,
            "this process may open {files} files only, so fewer connections are taken; raise it \
             with `ulimit -n` or `LimitNOFILE=`"
        );
    }
    caps
}

/// A quarter stays for upstreams, the store and files; and no address gets more than half.
fn within(files: usize) -> Caps {
    let connections = MOST.connections.min((files / 4).saturating_mul(3)).max(1);
    Caps { connections, per_address: MOST.per_address.min(connections.div_ceil(2)) }
}

/// The soft limit in the text of `/proc/self/limits`; `None` where there is none, or no such file.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             127235               127235               processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(text), Some(1024));
        assert_eq!(open_files("Max open files            unlimited  unlimited  files"), None);
        assert_eq!(open_files(""), None);
    }

    #[test]
    fn one_address_never_takes_the_last_descriptor() {
        for (files, connections, per_address) in
            [(0, 1, 1), (1_024, 768, 384), (20_000, 15_000, 5_000), (1 << 20, 20_000, 5_000)]
        {
            let caps = within(files);
            assert_eq!((caps.connections, caps.per_address), (connections, per_address), "{files}");
        }
    }
}
