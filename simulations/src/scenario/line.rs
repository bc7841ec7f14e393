//! Command lines of a scenario: placeholders, words, and which programs there are. No shell has a part in it.

/// Programs that a scenario may run. All of them act on the network namespace that they are started in.
const PROGRAMS: [&str; 9] = ["ip", "bridge", "tc", "nft", "conntrack", "sysctl", "ethtool", "iptables", "ip6tables"];

/// The binary's own helper, which asks, holds ports and forwards.
pub(crate) const CLIENT: &str = "client";

/// Something that is only known when the cluster stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder<'a> {
    /// `{ip POD}`: its address.
    Ip(&'a str),
    /// `{veth POD}`: the node's end of its veth pair.
    Veth(&'a str),
    /// `{mac POD}`: the link-layer address of its eth0.
    Mac(&'a str),
    /// `{host-mac POD}`: that of the node's end.
    HostMac(&'a str),
    /// `{gateway NODE}`: the address of its bridge.
    Gateway(&'a str),
    /// `{bridge-mac NODE}`: the link-layer address of its bridge.
    BridgeMac(&'a str),
    /// `{node-mac NODE}`: that of its eth0.
    NodeMac(&'a str),
    /// `{range NODE}`: its pods' addresses, as CIDR.
    Range(&'a str),
    /// `{node NODE}`: its own address.
    Node(&'a str),
    /// `{iptables}`: the program that kube-proxy or the kubelet writes with in this data plane.
    Iptables,
    /// `{service}`: the address of the DNS Service.
    Service,
    /// `{upstream}`: the resolver behind CoreDNS.
    Upstream,
}

/// Puts in what stands for the placeholders. `{` followed by anything but a letter is a brace.
///
/// # Errors
/// What `find` says, or that there is no such placeholder.
pub(crate) fn expand(
    text: &str,
    mut find: impl FnMut(Placeholder<'_>) -> Result<String, String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('{') {
        out.push_str(before);
        if !from.starts_with(|c: char| c.is_ascii_alphabetic()) {
            out.push('{');
            rest = from;
            continue;
        }
        let Some((inner, after)) = from.split_once('}') else {
            return Err(format!("`{{{from}` has no end; a brace that is meant is followed by a space"));
        };
        out.push_str(&find(placeholder(inner)?)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn placeholder(inner: &str) -> Result<Placeholder<'_>, String> {
    let words: Vec<&str> = inner.split_whitespace().collect();
    Ok(match words.as_slice() {
        ["ip", pod] => Placeholder::Ip(pod),
        ["veth", pod] => Placeholder::Veth(pod),
        ["mac", pod] => Placeholder::Mac(pod),
        ["host-mac", pod] => Placeholder::HostMac(pod),
        ["gateway", node] => Placeholder::Gateway(node),
        ["bridge-mac", node] => Placeholder::BridgeMac(node),
        ["node-mac", node] => Placeholder::NodeMac(node),
        ["range", node] => Placeholder::Range(node),
        ["node", node] => Placeholder::Node(node),
        ["iptables"] => Placeholder::Iptables,
        ["service"] => Placeholder::Service,
        ["upstream"] => Placeholder::Upstream,
        _ => {
            return Err(format!(
                "`{{{inner}}}` is no placeholder: there are {{ip POD}}, {{veth POD}}, {{mac POD}}, {{host-mac POD}}, \
                 {{gateway NODE}}, {{bridge-mac NODE}}, {{node-mac NODE}}, {{range NODE}}, {{node NODE}}, {{iptables}}, {{service}} \
                 and {{upstream}}; a brace that is meant is followed by a space"
            ));
        }
    })
}

/// Splits a line into words. `'…'` and `"…"` keep what is between them together; nothing else is special.
///
/// # Errors
/// If a quote is not closed, there is no word, or the program is none that may be run.
pub(crate) fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("`{line}` has an open quote"));
    }
    words.extend(word);
    allowed(&words)?;
    Ok(words)
}

fn allowed(words: &[String]) -> Result<(), String> {
    let Some(program) = words.first() else { return Err("there is no program".to_owned()) };
    let plain = program.strip_suffix("-save").or_else(|| program.strip_suffix("-restore")).unwrap_or(program);
    let plain = match plain.strip_suffix("-nft").or_else(|| plain.strip_suffix("-legacy")) {
        Some(tables @ ("iptables" | "ip6tables")) => tables,
        _ if plain != program && !matches!(plain, "iptables" | "ip6tables") => program,
        _ => plain,
    };
    if program != CLIENT && !PROGRAMS.contains(&plain) {
        return Err(format!("`{program}` is no program that a scenario may run: {} or {CLIENT}", PROGRAMS.join(", ")));
    }
    let args = words.get(1..).unwrap_or_default();
    // These start other programs.
    if let Some(word) = args.iter().find(|w| *w == "exec" || *w == "-M" || w.starts_with("--modprobe")) {
        return Err(format!("`{word}` may not be given to {program}"));
    }
    let of_network = |w: &&String| w.starts_with('-') || w.starts_with("net.") || w.starts_with("net/");
    match args.iter().find(|w| !of_network(w)) {
        Some(word) if program == "sysctl" => Err(format!("`{word}` is no sysctl of the network")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        expand(text, |placeholder| {
            Ok(match placeholder {
                Placeholder::Ip(pod) => format!("<{pod}>"),
                Placeholder::Iptables => "iptables-nft".to_owned(),
                other => return Err(format!("{other:?}")),
            })
        })
    }

    #[test]
    fn placeholders_are_told_from_braces() {
        assert_eq!(expanded("a {ip coredns@node1}/32 { udp } {53}").unwrap(), "a <coredns@node1>/32 { udp } {53}");
        assert_eq!(expanded("{iptables}-save").unwrap(), "iptables-nft-save");
        for bad in ["{ipp x}", "{ip}", "{ip x", "{udp,tcp}"] {
            assert!(expanded(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_split_without_a_shell() {
        let line = "nft add rule ip x y comment 'a  b' \"\" ; | $(reboot)";
        let expected = ["nft", "add", "rule", "ip", "x", "y", "comment", "a  b", "", ";", "|", "$(reboot)"];
        assert_eq!(words(line).unwrap(), expected);
        assert!(words("ip 'a").is_err());
        assert!(words("  ").is_err());
    }

    #[test]
    fn only_network_programs_may_run() {
        for good in [
            "ip link",
            "iptables-nft-save -t nat",
            "ip6tables-legacy -S",
            "iptables-restore --noflush",
            "client query --rate 3",
            "sysctl -w net.ipv4.ip_forward=0",
        ] {
            assert!(words(good).is_ok(), "{good}: {:?}", words(good));
        }
        for bad in [
            "sh -c true",
            "/bin/ip link",
            "ip netns exec node1 reboot",
            "iptables --modprobe=/bin/sh -L",
            "nft-save",
            "sysctl -w kernel.panic=1",
            "iptables-evil",
        ] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}
