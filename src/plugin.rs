//! `kubectl nameward`: the same binary under the name `kubectl-nameward`.
//!
//! kubectl hands everything after the plugin's name to the plugin, flags included, and a person may write kubectl's own flags
//! before the subcommand. Without a subcommand it is `status` that is meant.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::Cli;

/// kubectl's flags that Nameward knows too; each takes a value.
const FLAGS: [&str; 4] = ["--kubeconfig", "--context", "--namespace", "-n"];

/// The command line of this process, as a plugin's or as it is.
pub(crate) fn parsed(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let plugin = args.first().is_some_and(|name| is_plugin(name));
    let (command, args) = if plugin {
        (Cli::command().name("kubectl-nameward").bin_name("kubectl nameward"), arranged(args))
    } else {
        (Cli::command(), args)
    };
    Cli::from_arg_matches(&command.try_get_matches_from(args)?)
}

fn is_plugin(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == "kubectl-nameward")
}

/// Puts the flags that stand before the subcommand behind it, and `status` where there is none.
fn arranged(args: Vec<OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut all: Vec<OsString> = args.next().into_iter().collect();
    let mut flags = Vec::new();
    let mut rest = args.peekable();
    while let Some(flag) = rest.next_if(is_flag) {
        let alone = FLAGS.iter().any(|known| flag == *known);
        flags.push(flag);
        if alone {
            flags.extend(rest.next());
        }
    }
    match rest.peek().and_then(|next| next.to_str()) {
        // Help, version, or a mistake that clap names best.
        Some(next) if !next.starts_with('-') || ["-h", "--help", "-V", "--version"].contains(&next) => {
            all.extend(rest.next());
        }
        Some(_) | None => all.push("status".into()),
    }
    all.extend(flags);
    all.extend(rest);
    all
}

/// `--context x`, `--context=x`, `-n x`, `-nx`.
fn is_flag(arg: &OsString) -> bool {
    let Some(text) = arg.to_str() else { return false };
    FLAGS.iter().any(|flag| match text.strip_prefix(flag) {
        Some(rest) => rest.is_empty() || rest.starts_with('=') || !flag.starts_with("--"),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_table_of_command_lines() {
        for (given, wanted) in [
            ("", "status"),
            ("status", "status"),
            ("--context a", "status --context a"),
            ("--context a -n b check --output json", "check --context a -n b --output json"),
            ("--kubeconfig=f -nb status", "status --kubeconfig=f -nb"),
            ("status --context a", "status --context a"),
            ("--output json", "status --output json"),
            ("--namespace b --output json", "status --namespace b --output json"),
            ("--help", "--help"),
            ("--context", "status --context"),
            ("diagnose shop/cart", "diagnose shop/cart"),
        ] {
            let words = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
            let args = [words("kubectl-nameward"), words(given)].concat();
            assert_eq!(arranged(args)[1..], words(wanted), "{given}");
        }
    }

    #[test]
    fn only_the_plugin_is_a_plugin() {
        for (name, wanted) in [
            ("/usr/local/bin/kubectl-nameward", true),
            ("kubectl-nameward", true),
            ("/usr/bin/nameward", false),
            ("kubectl-nameward/nameward", false),
        ] {
            assert_eq!(is_plugin(OsStr::new(name)), wanted, "{name}");
        }
        let cli = parsed(["kubectl-nameward", "--context", "a", "-n", "b"].map(OsString::from).to_vec()).unwrap();
        let crate::cli::Command::Status(args) = cli.command else { panic!("not status") };
        assert_eq!((args.cluster.context.as_deref(), args.cluster.namespace.as_deref()), (Some("a"), Some("b")));
        let help =
            parsed(["kubectl-nameward", "status", "--help"].map(OsString::from).to_vec()).unwrap_err().to_string();
        assert!(help.contains("kubectl nameward status"), "{help}");
        let plain = parsed(["nameward", "status", "--help"].map(OsString::from).to_vec()).unwrap_err().to_string();
        assert!(plain.contains("Usage: nameward status"), "{plain}");
    }
}
