//! Embeds the eBPF objects that `cargo xtask build-ebpf` left under target/bpf/, where they are there.
//! Without them the rest still compiles, and `foobar lb` says what is missing.

use std::path::{Path, PathBuf};
use std::{env, fs};

const OBJECTS: [&str; 3] = ["balancer", "check", "agent"];

fn main() {
    println!("cargo::rerun-if-env-changed=FOOBAR_BPF_DIR");
    println!("cargo::rerun-if-changed=migrations");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let directory = directory(&out);
    let mut code = String::new();
    for name in OBJECTS {
        let path = directory.join(name);
        println!("cargo::rerun-if-changed={}", path.display());
        let value = if path.is_file() {
            let copy = out.join(format!("{name}.o"));
            fs::copy(&path, &copy).expect("the object can be copied to OUT_DIR");
            format!(
                "Some(aya::include_bytes_aligned!({:?}))",
                copy.display().to_string()
            )
        } else {
            "None".to_owned()
        };
        code.push_str(&format!(
            "/// The object `{name}`, where it was built before the binary.\npub(super) const {}: Option<&[u8]> = {value};\n",
            name.to_uppercase()
        ));
    }
    fs::write(out.join("objects.rs"), code).expect("OUT_DIR is writable");
}

/// `FOOBAR_BPF_DIR`, else `bpf` in the target directory that OUT_DIR lies in.
fn directory(out: &Path) -> PathBuf {
    env::var_os("FOOBAR_BPF_DIR").map_or_else(
        || {
            // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out, with another level where cargo is given --target.
            let profile = out.ancestors().nth(3).unwrap_or(out);
            let target = profile.parent().unwrap_or(profile);
            target.join("bpf")
        },
        PathBuf::from,
    )
}
