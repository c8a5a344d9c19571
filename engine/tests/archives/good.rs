//! Good archives become the site that their folder would be, whoever packed them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use pinstone_engine::archive::{Archive, Format, ListOptions, Unbounded};
use pinstone_engine::hash::BlobHash;

use crate::build::*;
use crate::world::{limits, list, paths};

type Site = BTreeMap<String, Vec<u8>>;

/// The site that an archive holds, with all bytes.
fn site(archive: &[u8], options: &ListOptions) -> (Format, Site) {
    let mut archive = Archive::open(Cursor::new(archive), limits()).unwrap();
    let listing = archive.list(options, &mut Unbounded).unwrap();
    let mut contents: BTreeMap<BlobHash, Vec<u8>> = BTreeMap::new();
    let mut wanted: std::collections::HashSet<_> = listing.files.iter().map(|file| file.blob).collect();
    archive
        .contents(
            &listing,
            |blob| wanted.remove(blob),
            |blob, content| {
                let (mut bytes, mut window) = (Vec::new(), [0; 1000]);
                loop {
                    match content.read(&mut window)? {
                        0 => break,
                        read => bytes.extend_from_slice(&window[..read]),
                    }
                }
                assert_eq!(bytes.len() as u64, content.size());
                assert_eq!(BlobHash::of(&bytes), blob);
                assert!(contents.insert(blob, bytes).is_none(), "each is given once");
                Ok(ControlFlow::Continue(()))
            },
        )
        .unwrap();
    let file = |file: &pinstone_engine::archive::ArchiveFile| (file.path.to_string(), contents[&file.blob].clone());
    (archive.format(), listing.files.iter().map(file).collect())
}

/// A site with everything that formats differ in: long names, other letters, empty and large files, one content twice.
fn sample() -> Site {
    let long = format!("{}/{}/{}.html", "a".repeat(90), "b".repeat(120), "c".repeat(80));
    let large: Vec<u8> = (0..300_000_u32).map(|number| (number.wrapping_mul(number) >> 7).to_le_bytes()[0]).collect();
    [
        ("index.html", b"<h1>hello</h1>".to_vec()),
        ("copy.html", b"<h1>hello</h1>".to_vec()),
        ("empty.txt", Vec::new()),
        ("ü/größe ☃.txt", "größe".into()),
        (".well-known/security.txt", b"Contact: x".to_vec()),
        ("data/large.bin", large),
        (&*long, b"long".to_vec()),
        ("exactly-512", vec![7; 512]),
    ]
    .into_iter()
    .map(|(path, bytes)| (path.to_owned(), bytes))
    .collect()
}

fn write(site: &Site, folder: &Path) {
    for (path, bytes) in site {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Runs a program in `folder`; says why where it is not there.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> bool {
    match Command::new(program).args(arguments).current_dir(folder).env("LC_ALL", "C.UTF-8").output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => panic!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            eprintln!("skipped: {program} cannot be run here: {error}");
            false
        }
    }
}

#[test]
fn every_format_is_told_by_its_first_bytes_and_read_to_the_last() {
    let entries: Vec<_> =
        sample().iter().flat_map(|(path, bytes)| [pax(&[("path", path)]), file("short", bytes)]).collect();
    let tars = tar(&entries);
    let zips: Vec<_> = sample().iter().map(|(path, bytes)| zipped(path, bytes)).collect();
    for (archive, format) in [
        (tars.clone(), Format::Tar),
        (gzip(&tars), Format::TarGz),
        ([gzip(&tars[..1000]), gzip(&tars[1000..])].concat(), Format::TarGz),
        (zst(&tars), Format::TarZst),
        ([zst(&tars[..1000]), zst(&tars[1000..])].concat(), Format::TarZst),
        (zip(&zips), Format::Zip),
    ] {
        assert_eq!(site(&archive, &ListOptions::default()), (format, sample()));
    }
}

#[test]
fn what_tar_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write(&sample(), &folder.path().join("site"));
    for (number, arguments) in [
        &["--format=gnu", "-cf"][..],
        &["--format=pax", "-cf"],
        &["--format=posix", "--pax-option=delete=atime", "-czf"],
        &["--format=gnu", "-czf"],
        &["--format=oldgnu", "-cf"],
    ]
    .iter()
    .enumerate()
    {
        let name = format!("{number}.archive");
        let arguments: Vec<_> = arguments.iter().copied().chain([&*name, "-C", "site", "."]).collect();
        if !run(folder.path(), "tar", &arguments) {
            return;
        }
        let archive = fs::read(folder.path().join(&name)).unwrap();
        assert_eq!(site(&archive, &ListOptions::default()).1, sample(), "{arguments:?}");
    }
    // Neither has room for a long name.
    let mut short = sample();
    short.retain(|path, _| path.len() < 90);
    write(&short, &folder.path().join("short"));
    for format in ["--format=ustar", "--format=v7"] {
        assert!(run(folder.path(), "tar", &[format, "-cf", "short.tar", "short"]));
        let archive = fs::read(folder.path().join("short.tar")).unwrap();
        let strip = ListOptions { strip: 1, ..ListOptions::default() };
        assert_eq!(site(&archive, &strip).1, short, "{format}");
    }
    // Split in the middle between a prefix and a name.
    let middle: Site = [(format!("{}/{}", "p".repeat(90), "n".repeat(90)), b"x".to_vec())].into();
    write(&middle, &folder.path().join("middle"));
    assert!(run(folder.path(), "tar", &["--format=ustar", "-cf", "middle.tar", "-C", "middle", "."]));
    assert_eq!(site(&fs::read(folder.path().join("middle.tar")).unwrap(), &ListOptions::default()).1, middle);
    if run(folder.path(), "zstd", &["-q", "-19", "0.archive", "-o", "0.tar.zst"]) {
        let archive = fs::read(folder.path().join("0.tar.zst")).unwrap();
        assert_eq!(site(&archive, &ListOptions::default()), (Format::TarZst, sample()));
    }
}

#[test]
fn what_zip_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write(&sample(), &folder.path().join("site"));
    let within = folder.path().join("site");
    for arguments in [
        &["-q", "-r", "../a.zip", "."][..],
        &["-q", "-0", "-r", "../b.zip", "."],
        &["-q", "-9", "-D", "-X", "-r", "../c.zip", "."],
        // Forced into the larger form, and with a comment at its end.
        &["-q", "-fz", "-r", "../d.zip", "."],
    ] {
        if !run(&within, "zip", arguments) {
            return;
        }
        let name = arguments.iter().find_map(|argument| argument.strip_prefix("../")).unwrap();
        let archive = fs::read(folder.path().join(name)).unwrap();
        assert_eq!(site(&archive, &ListOptions::default()), (Format::Zip, sample()), "{arguments:?}");
    }
    // To a pipe, so that sizes follow the content.
    assert!(run(&within, "sh", &["-c", "zip -q -r - . | cat > ../e.zip"]));
    let archive = fs::read(folder.path().join("e.zip")).unwrap();
    assert_eq!(site(&archive, &ListOptions::default()).1, sample());
}

#[test]
fn what_python_writes_is_read() {
    const SCRIPT: &str = r#"
import io, os, sys, tarfile, zipfile
paths = [os.path.relpath(os.path.join(at, name), 'site') for at, _, names in os.walk('site') for name in names]
for name, form in [('ustar', tarfile.USTAR_FORMAT), ('gnu', tarfile.GNU_FORMAT), ('pax', tarfile.PAX_FORMAT)]:
    with tarfile.open(name + '.py', 'w:gz', format=form) as archive:
        for path in paths:
            if form != tarfile.USTAR_FORMAT or len(path.encode()) < 90:
                archive.add(os.path.join('site', path), './' + path)
class Pipe(io.RawIOBase):
    def __init__(self, file): self.file = file
    def writable(self): return True
    def write(self, bytes): return self.file.write(bytes)
with zipfile.ZipFile('zip.py', 'w', zipfile.ZIP_DEFLATED) as archive:
    for path in paths: archive.write(os.path.join('site', path), path)
with open('pipe.py', 'wb') as file, zipfile.ZipFile(Pipe(file), 'w', zipfile.ZIP_DEFLATED) as archive:
    for path in paths:
        with archive.open(path, 'w', force_zip64=True) as entry: entry.write(open(os.path.join('site', path), 'rb').read())
"#;
    let folder = tempfile::tempdir().unwrap();
    write(&sample(), &folder.path().join("site"));
    if !run(folder.path(), "python3", &["-c", SCRIPT]) {
        return;
    }
    for name in ["ustar", "gnu", "pax", "zip", "pipe"] {
        let archive = fs::read(folder.path().join(format!("{name}.py"))).unwrap();
        let mut want = sample();
        if name == "ustar" {
            want.retain(|path, _| path.len() < 90);
        }
        assert_eq!(site(&archive, &ListOptions::default()).1, want, "{name}");
    }
}

#[test]
fn names_are_those_of_the_folder() {
    let folder = |name: &str| entry(b'5', name.as_bytes(), b"");
    let all = [folder("./"), folder("./a/"), folder("a"), file("./a/b", "x"), entry(b'0', b"c/", b""), file("d", "")];
    assert_eq!(paths(&tar(&all)).unwrap(), ["a/b", "d"]);
    // What `git archive` begins with is about no entry.
    let comment = pax_raw(b'g', &pax_records(&[("comment", "0123456789abcdef")]));
    assert_eq!(paths(&tar(&[comment, file("index.html", "")])).unwrap(), ["index.html"]);
    // One block of zeros at the end is enough, and nothing is one that is missing.
    let one_zero = [open_tar(&all), vec![0; 512]].concat();
    assert_eq!(paths(&one_zero).unwrap(), ["a/b", "d"]);
    // Where no Unix wrote it, the slash tells a folder.
    let zips = [Zip { mode: None, ..stored("a/", "") }, Zip { mode: None, ..zipped("a/b", "x") }];
    assert_eq!(paths(&zip(&zips)).unwrap(), ["a/b"]);
    let only_case = [file("A", "1"), file("a", "2")];
    assert_eq!(paths(&tar(&only_case)).unwrap(), ["A", "a"], "as in a folder; a plan warns of it");
}

#[test]
fn the_same_names_are_ignored_as_in_a_folder() {
    let all = [
        file("index.html", ""),
        file(".env", "secret"),
        file("a/.hidden", ""),
        file(".well-known/x", ""),
        file("node_modules/x/y.js", ""),
        link(b'2', "node_modules/.bin/x", "/usr/bin/x"),
        entry(b'3', b".dev/null", b""),
        file("pinstone.toml", "[project]"),
        file("a/pinstone.toml", ""),
        file("draft/x", ""),
        file("b.map", ""),
        file("a/keep.map", ""),
        file(".git/objects/large", vec![b'x'; 2 << 20]),
        // The last one decides on all of them.
        file("./.pinstoneignore", "*.map\n!keep.map\n/draft/\n!.env\n"),
    ];
    let listing = list(&tar(&all), &ListOptions::default()).unwrap();
    let names: Vec<_> = listing.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, [".env", ".well-known/x", "a/keep.map", "a/pinstone.toml", "index.html"]);
    assert_eq!((listing.ignored, listing.links_followed), (7, 0));
    let more = ListOptions { ignore: vec![".env".to_owned(), "index.html".to_owned()], ..ListOptions::default() };
    let names: Vec<_> = list(&tar(&all), &more).unwrap().files.into_iter().map(|file| file.path.to_string()).collect();
    assert_eq!(names, [".well-known/x", "a/keep.map", "a/pinstone.toml"]);
}

#[test]
fn folders_are_stripped_on_request() {
    let all =
        [file("top/index.html", "i"), file("top/a/b", "b"), file("top/.pinstoneignore", "a\n"), file("readme", "r")];
    let strip = |strip| list(&tar(&all), &ListOptions { strip, ..ListOptions::default() });
    let names =
        |strip_by| strip(strip_by).unwrap().files.into_iter().map(|file| file.path.to_string()).collect::<Vec<_>>();
    assert_eq!(names(0), ["readme", "top/a/b", "top/index.html"]);
    assert_eq!(names(1), ["index.html"]);
    assert_eq!(strip(1).unwrap().ignored, 2, "one by a line, one without a folder to strip");
    assert_eq!(names(2), ["b"]);
    assert!(strip(3).unwrap_err().to_string().contains("no files to publish; 4 of its entries"));
    for (entries, told) in [
        ([file("a/x", "1"), file("b/x", "2")], "another entry has the same name"),
        ([file("a/.pinstoneignore", "*"), file("b/.pinstoneignore", "")], "another entry has the same name"),
        ([file("a/x", "1"), file("b/x/y", "2")], "it is no folder"),
    ] {
        let error = list(&tar(&entries), &ListOptions { strip: 1, ..ListOptions::default() }).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[test]
fn links_within_are_followed() {
    let all = [
        link(b'2', "latest", "v2"),
        file("v1/index.html", "one"),
        file("v2/index.html", "two"),
        file("v2/sub/x", "x"),
        link(b'1', "hard.html", "./v1/index.html"),
        link(b'2', "sub/up.html", "../v1/./index.html"),
        link(b'2', "through", "latest/sub/../index.html"),
        link(b'2', "again", "through"),
        link(b'1', "hard-again", "again"),
        link(b'2', "v2/sub/one", "../../v1"),
        file(".hidden/y", "y"),
        link(b'2', "seen", ".hidden/y"),
    ];
    let (_, found) = site(&tar(&all), &ListOptions::default());
    let text = |path: &str| String::from_utf8(found[path].clone()).unwrap();
    assert_eq!((text("hard.html"), text("sub/up.html")), ("one".to_owned(), "one".to_owned()));
    assert_eq!(
        (text("through"), text("again"), text("hard-again")),
        ("two".to_owned(), "two".to_owned(), "two".to_owned())
    );
    assert_eq!((text("latest/index.html"), text("latest/sub/x"), text("seen")), ("two".into(), "x".into(), "y".into()));
    assert_eq!((text("v2/sub/one/index.html"), text("latest/sub/one/index.html")), ("one".into(), "one".into()));
    assert_eq!(found.len(), 13, "{:?}", found.keys());
    // A zip has links as well, whose content is where they lead.
    let zips = [zipped("v1/x", "x"), Zip { mode: Some(0o120_777), ..zipped("now", "v1") }];
    assert_eq!(paths(&zip(&zips)).unwrap(), ["now/x", "v1/x"]);
    // What leads out of what is published, but not out of the archive, is in the archive.
    let up = [file("shared/x", "x"), file("site/index.html", "i"), link(b'2', "site/x", "../shared/x")];
    let strip = ListOptions { strip: 1, ..ListOptions::default() };
    let names: Vec<_> = list(&tar(&up[1..]), &strip)
        .map(|listing| listing.files.len())
        .map_err(|e| e.to_string())
        .into_iter()
        .collect();
    assert!(names.is_empty(), "nowhere without `shared`");
    assert!(list(&tar(&up), &ListOptions::default()).is_ok());
}

#[test]
fn zip64_is_read_where_it_agrees() {
    let good = zipped("index.html", "hello");
    let (size, packed) = (u64::from(good.size), u64::from(good.packed_size));
    let large = Zip {
        size: u32::MAX,
        packed_size: u32::MAX,
        extra: extra(1, &[size.to_le_bytes(), packed.to_le_bytes()].concat()),
        ..good.clone()
    };
    // The header before the content has the short form, which says the same.
    let (_, directory, _) = zip_parts(&[large]);
    let (entries, _, start) = zip_parts(&[good]);
    let length = directory.len() as u64;
    let at = entries.len() as u64 + length;
    let end = [zip64_end(1, length, start.into(), at), zip_end(u16::MAX, u32::MAX, u32::MAX, b"a comment")].concat();
    assert_eq!(paths(&[entries, directory, end].concat()).unwrap(), ["index.html"]);
}
