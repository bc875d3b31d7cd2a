//! The destinations of a report: standard output in one format, and files in any format.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use prober_core::report::Report;
use prober_core::report::render::text::{self, Options};
use prober_core::report::render::{html, json, junit};

use crate::values::Format;
use crate::{pcapng, show, terminal, usage};

/// Where a report goes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// The format of the report on standard output
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        env = "PROBER_OUTPUT"
    )]
    pub(crate) output: Format,

    /// Also write the report to FILE, such as html=report.html or junit=report.xml; may be given several times
    #[arg(long = "report", value_name = "FORMAT=FILE", value_parser = destination)]
    reports: Vec<(Format, PathBuf)>,

    /// Also write the packets of failing probes, with comments for Wireshark: --report pcapng=FILE
    #[arg(long, value_name = "FILE")]
    pcapng: Option<PathBuf>,
}

impl OutputArgs {
    /// Opens every file, and keeps its content until a report replaces it.
    ///
    /// Call it before anything is measured, so that a file that cannot be written is an error at once.
    ///
    /// Fails if a file cannot be opened for writing, if two reports name one file, and if a report names `-`.
    pub(crate) fn open(&self) -> anyhow::Result<Files> {
        let pcapng = self.pcapng.iter().map(|path| (Format::Pcapng, path));
        let reports = self.reports.iter().map(|(format, path)| (*format, path));
        let mut files: Vec<OpenFile> = Vec::new();
        for (format, path) in reports.chain(pcapng) {
            if path.as_os_str() == "-" {
                return Err(usage::error(format!(
                    "cannot write a second report to standard output: use --output {format} alone, or name a file"
                )));
            }
            if files.iter().any(|open| open.path == *path) {
                return Err(usage::error(format!(
                    "cannot write two reports to {}: name a file for each",
                    path.display()
                )));
            }
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .with_context(|| format!("cannot write the report to {}", path.display()))?;
            files.push(OpenFile {
                format,
                path: path.clone(),
                file,
            });
        }
        Ok(Files(files))
    }
}

/// Parses a destination such as `html=report.html`: a format, in any case, and a file. The error lists the formats.
fn destination(text: &str) -> Result<(Format, PathBuf), String> {
    let formats = || Format::names().join(", ");
    let (format, file) = text
        .split_once('=')
        .filter(|(_, file)| !file.is_empty())
        .ok_or_else(|| format!("expected FORMAT=FILE, where FORMAT is one of {}", formats()))?;
    let format = Format::named(format)
        .ok_or_else(|| format!("unknown format '{format}': expected one of {}", formats()))?;
    Ok((format, file.into()))
}

/// The open files that a report is written to.
#[derive(Debug)]
pub(crate) struct Files(Vec<OpenFile>);

/// An open file and the format of its report.
#[derive(Debug)]
struct OpenFile {
    format: Format,
    path: PathBuf,
    file: File,
}

impl Files {
    /// Writes the report to every file, then to standard output in the format `output`.
    ///
    /// An error of one file does not stop the others. Returns the error of standard output, else the first error of a
    /// file.
    pub(crate) fn write(&self, report: &Report, output: Format) -> anyhow::Result<()> {
        let written = self.save(report);
        print(report, output)?;
        written
    }

    /// Writes the report to every file, and returns the first error at the end.
    pub(crate) fn save(&self, report: &Report) -> anyhow::Result<()> {
        let written = self.0.iter().map(|open| open.write(report));
        written.fold(Ok(()), Result::and)
    }
}

impl OpenFile {
    /// Replaces the content of the file by the report.
    fn write(&self, report: &Report) -> anyhow::Result<()> {
        let bytes = bytes(report, self.format)?;
        self.replace(&bytes)
            .with_context(|| format!("cannot write the report to {}", self.path.display()))
    }

    /// Replaces the content of the file by these bytes.
    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        // A pipe or a device has no length to set.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        (&self.file).write_all(bytes)
    }
}

/// Writes a report to standard output, as text in colour and in the width of the terminal.
pub(crate) fn print(report: &Report, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Text | Format::Wide => show::styled(&text::report(
            report,
            Options {
                width: terminal::columns(),
                wide: format == Format::Wide,
            },
        )),
        Format::Json | Format::Yaml | Format::Html | Format::Pcapng | Format::Junit => {
            show::bytes(&bytes(report, format)?)
        }
    }
}

/// Renders a report in this format, without colour.
///
/// Fails if the report cannot be serialized.
fn bytes(report: &Report, format: Format) -> anyhow::Result<Vec<u8>> {
    let text = match format {
        Format::Text | Format::Wide => {
            let options = Options {
                wide: format == Format::Wide,
                ..Options::default()
            };
            text::report(report, options).to_string()
        }
        Format::Json => json(report).context("cannot write the report as JSON")?,
        Format::Yaml => {
            serde_saphyr::to_string(report).context("cannot write the report as YAML")?
        }
        Format::Html => html::report(report),
        Format::Junit => junit(report),
        Format::Pcapng => return pcapng::capture(report),
    };
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_form_and_a_file() {
        assert_eq!(
            destination("HTML=a=b.html"),
            Ok((Format::Html, "a=b.html".into()))
        );
        for text in ["", "html", "html=", "=a", "pdf=a"] {
            let error = destination(text).unwrap_err();
            assert!(error.contains("html"), "{text}: {error}");
        }
    }
}
