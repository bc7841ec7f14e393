//! Finds the scenarios that come with the binary: every `scenarios/*.toml`, by the name of its file.

use std::fmt::Write as _;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=scenarios");
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    files.sort();
    let mut text = String::from("&[\n");
    for path in &files {
        let name = path.file_stem().and_then(|n| n.to_str()).ok_or("the name of a scenario's file is no text")?;
        let path = path.to_str().ok_or("the path of a scenario's file is no text")?;
        writeln!(text, "    ({name:?}, include_str!({path:?})),")?;
    }
    text.push_str("]\n");
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("built_in.rs"), text)?;
    Ok(())
}
