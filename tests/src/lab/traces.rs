//! Everything on this machine that bears a lab run's name. A lab that is down has none.

use std::path::Path;

use anyhow::Result;

use super::Lab;

/// The run's namespaces, files, mounts and processes, in words.
pub fn of(lab: &Lab) -> Result<Vec<String>> {
    let mut traces = Vec::new();
    let prefix = lab.namespace("");
    for directory in ["/run/netns", "/etc/netns"] {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        traces.extend(
            names
                .filter(|name| name.starts_with(&prefix))
                .map(|name| format!("{directory}/{name}")),
        );
    }
    let directory = lab.directory();
    for path in [directory.clone(), directory.with_extension("lock")] {
        if path.exists() {
            traces.push(path.display().to_string());
        }
    }
    let mark = format!("{}/", directory.display());
    let bears = |text: &str| text.contains(&mark) || text.contains(&prefix);
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    traces.extend(
        mounts
            .lines()
            .filter(|line| bears(line))
            .map(|line| format!("mount {line}")),
    );
    for entry in std::fs::read_dir("/proc")?.flatten() {
        // One that ended meanwhile has no command line any more.
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if bears(&line) && is_process(&entry.path()) {
            traces.push(format!("process {}: {line}", entry.file_name().to_string_lossy()));
        }
    }
    Ok(traces)
}

fn is_process(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}
