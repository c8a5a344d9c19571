//! Makes the API's description, which people write as YAML, into the JSON that the server answers with.

use std::path::Path;
use std::{env, error, fs};

fn main() -> Result<(), Box<dyn error::Error>> {
    const SOURCE: &str = "../docs/openapi.yaml";
    println!("cargo::rerun-if-changed={SOURCE}");
    let description: serde_json::Value = serde_saphyr::from_str(&fs::read_to_string(SOURCE)?)?;
    let folder = env::var_os("OUT_DIR").ok_or("a build has a folder")?;
    fs::write(Path::new(&folder).join("openapi.json"), format!("{description}\n"))?;
    Ok(())
}
