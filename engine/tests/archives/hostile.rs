//! Hostile archives, and what each gets. None of them leaves anything behind.

#![allow(clippy::cast_possible_truncation, reason = "test archives are small")]

use pinstone_engine::Limits;
use pinstone_engine::archive::ArchivePublishError;

use crate::build::*;
use crate::world::World;

/// An archive that nobody should have made: what it tries, its bytes, and a part of what it is told.
type Hostile = (&'static str, Vec<u8>, &'static str);

fn page() -> Tar {
    file("index.html", "<h1>hello</h1>")
}

fn big_endian(number: u128) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes.copy_from_slice(&number.to_be_bytes()[4..]);
    bytes[0] |= 0x80;
    bytes
}

fn names() -> Vec<Hostile> {
    let deep = format!("{}x", "folder/".repeat(200));
    let path = |name: &str| tar(&[page(), pax(&[("path", name)]), file("short", "x")]);
    vec![
        ("a name that leads up", tar(&[page(), file("../evil.html", "x")]), "entry 2: its name has a `..` segment"),
        ("a name that leads up within", tar(&[file("a/../../evil", "x")]), "entry 1: its name has a `..` segment"),
        ("a folder that leads up", tar(&[entry(b'5', b"a/../..", b"")]), "entry 1: its name has a `..` segment"),
        ("an absolute name", tar(&[file("/etc/passwd", "x")]), "entry 1: its name is absolute"),
        ("an absolute name behind a dot", tar(&[file(".//etc/passwd", "x")]), "entry 1: its name is absolute"),
        ("a drive", tar(&[file("C:/x", "x")]), "entry 1: its name starts with a drive letter"),
        ("a name that leads up on Windows", tar(&[file("..\\evil", "x")]), "entry 1: its name has a backslash"),
        ("a NUL in a header's name", tar(&[file("a", "x").with(2, b"b")]), "entry 1: its name has a NUL"),
        ("a NUL in an extended name", path("index.html\0.jpg"), "entry 2: its name has a NUL"),
        ("a NUL in a long name", tar(&[long_raw(b"a\0b\0"), file("a", "x")]), "entry 1: its name has a NUL"),
        ("a name that is no UTF-8", tar(&[entry(b'0', b"a\xff", b"x")]), "entry 1: its name is not UTF-8"),
        ("a line break in a name", tar(&[file("a\nb", "x")]), "entry 1: its name has a control character"),
        ("an empty segment", tar(&[file("a//b", "x")]), "entry 1: its name has an empty or `.` segment"),
        ("an empty name", tar(&[entry(b'0', b"", b"x")]), "entry 1: it has no name"),
        ("a file that is the root", tar(&[file(".", "x")]), "entry 1: it has no name"),
        ("a path of 1,401 bytes", path(&deep), "entry 2: its name is longer than 1,024 bytes"),
        (
            "a long name of 2 GiB",
            tar(&[page(), long(b'L', "x").size(2 << 30), file("a", "x")]),
            "entry 2: its name is longer than 1,024 bytes",
        ),
        ("names of 64 KiB together", many_names(), "the names of its entries have more than 65536 bytes together"),
    ]
}

fn long_raw(name: &[u8]) -> Tar {
    entry(b'L', b"././@LongLink", name)
}

fn many_names() -> Vec<u8> {
    let name = |number: usize| format!("{}{number}", "folder/".repeat(140));
    let entries: Vec<_> = (0..80).flat_map(|number| [long(b'L', &name(number)), file("x", "")]).collect();
    tar(&entries)
}

fn places() -> Vec<Hostile> {
    let folder = |name: &str| entry(b'5', name.as_bytes(), b"");
    let circle = [link(b'2', "a", "b"), link(b'2', "b", "a")];
    // Each folder leads twice to the next one: a million files out of forty links.
    let bomb: Vec<_> = (0..20)
        .flat_map(|level| {
            let next = format!("../{}", level + 1);
            [link(b'2', &format!("{level}/a"), &next), link(b'2', &format!("{level}/b"), &next)]
        })
        .chain([file("20/x", "x")])
        .collect();
    // Each link to nothing but folders, and each link to a link, is work again.
    let folders: Vec<_> = (0..30)
        .map(|number| folder(&format!("f/{number}/")))
        .chain((0..5).map(|number| link(b'2', &format!("{number}"), "f")))
        .chain([page()])
        .collect();
    let crowd: Vec<_> =
        (0..60).map(|number| file(&format!("c/{number}"), "")).chain([link(b'2', "c/again", "../c")]).collect();
    let detour = [file("a/x", "x"), long(b'K', &format!("{}a", "a/../".repeat(600))), link(b'2', "b", "")];
    let detours: Vec<_> =
        detour.into_iter().chain((0..5).map(|number| link(b'2', &format!("{number}"), "b"))).collect();
    vec![
        ("links to many folders", tar(&folders), "it has more than 100 entries"),
        ("a link back to a full folder", tar(&crowd), "entry 61: it is a link that leads in a circle"),
        ("links by a long detour", tar(&detours), "lead through too many others"),
        ("a link out", tar(&[link(b'2', "a", "../etc/passwd")]), "entry 1: it is a link that leads out"),
        ("a link out from below", tar(&[link(b'2', "a/b", "../../x")]), "entry 1: it is a link that leads out"),
        ("an absolute link", tar(&[link(b'2', "a", "/etc/passwd")]), "entry 1: it is a link that leads out"),
        ("a hard link out", tar(&[link(b'1', "a", "../../etc/shadow")]), "entry 1: it is a link that leads out"),
        ("an absolute hard link", tar(&[link(b'1', "a", "/etc/shadow")]), "entry 1: it is a link that leads out"),
        ("a link to nothing", tar(&[link(b'2', "a", "b")]), "entry 1: it is a link to something that is not in"),
        (
            "a link into a file",
            tar(&[page(), link(b'2', "a", "index.html/x")]),
            "entry 2: it is a link to something that is not in",
        ),
        ("links in a circle", tar(&circle), "entry 1: it is a link that leads in a circle"),
        (
            "a link to its own folder",
            tar(&[file("a/x", "x"), link(b'2', "a/b", ".")]),
            "entry 2: it is a link that leads in a circle",
        ),
        (
            "a link to the root",
            tar(&[file("a/x", "x"), link(b'2', "a/b", "..")]),
            "entry 2: it is a link that leads in a circle",
        ),
        (
            "folders that link to each other",
            tar(&[file("a/x", ""), file("b/x", ""), link(b'2', "a/b", "../b"), link(b'2', "b/a", "../a")]),
            "it is a link that leads in a circle",
        ),
        ("links that multiply", tar(&bomb), "it has more than 100 entries"),
        (
            "a file through a link",
            tar(&[link(b'2', "a", "b"), folder("b"), file("a/evil", "x")]),
            "entry 1: it is no folder, and another entry is in it",
        ),
        ("a file in a file", tar(&[file("a", "x"), file("a-b", ""), file("a/b", "x")]), "entry 1: it is no folder"),
        ("a file that is a folder", tar(&[folder("a/"), file("a", "x")]), "entry 2: another entry has the same name"),
        ("one name twice", tar(&[page(), file("index.html", "evil")]), "entry 2: another entry has the same name"),
        (
            "one name in two spellings",
            tar(&[page(), file("./index.html", "evil")]),
            "entry 2: another entry has the same",
        ),
        (
            "a file and a link of one name",
            tar(&[page(), link(b'1', "index.html", "index.html")]),
            "entry 2: another entry",
        ),
        ("a character device", tar(&[entry(b'3', b"null", b"")]), "entry 1: it is a character device, not a file"),
        ("a block device", tar(&[entry(b'4', b"disk", b"")]), "entry 1: it is a block device, not a file"),
        ("a named pipe", tar(&[entry(b'6', b"pipe", b"")]), "entry 1: it is a named pipe, not a file"),
        (
            "a link to a device",
            tar(&[entry(b'3', b".n", b""), link(b'2', "n", ".n")]),
            "entry 2: it is a character device",
        ),
        ("a sparse file", tar(&[entry(b'S', b"a", b"")]), "entry 1: it is a sparse file"),
        ("a sparse file of pax", tar(&[pax(&[("GNU.sparse.major", "1")]), page()]), "entry 1: it is a sparse file"),
        ("a file of two volumes", tar(&[entry(b'M', b"a", b"x")]), "entry 1: it continues a file of another volume"),
        ("a kind that nobody knows", tar(&[entry(b'Q', b"a", b"x")]), "entry 1: it is of a kind that is not taken"),
    ]
}

fn headers() -> Vec<Hostile> {
    let whole = tar(&[page(), file("b", vec![b'x'; 2000])]);
    let mut signed = whole.clone();
    signed[0] ^= 1;
    let records = pax_records(&[("path", "b")]);
    vec![
        (
            "a wrong checksum within",
            [open_tar(&[page()]), signed.clone()].concat(),
            "entry 2: it is damaged: a header's checksum",
        ),
        ("a tar that is cut off", whole[..2048].to_vec(), "entry 2: it is damaged: it ends too early"),
        ("a tar that is cut off between entries", open_tar(&[page()]), "it ends without the mark of its end"),
        ("a second tar behind the first", [&*whole, &whole].concat(), "something follows its end"),
        (
            "a size beyond 64 bits",
            tar(&[page().with(124, &big_endian(1 << 70))]),
            "a number in its header is out of bounds",
        ),
        ("a negative size", tar(&[page().with(124, &[0xff; 12])]), "a number in its header is out of bounds"),
        ("the largest size", tar(&[page().with(124, &big_endian(u64::MAX.into()))]), "it ends too early"),
        ("a size that is none", tar(&[page().with(124, b"12345678\0\0\0\0")]), "a number in its header is none"),
        ("two sizes", tar(&[pax(&[("size", "512")]), page()]), "entry 1: it is damaged: its headers say two sizes"),
        (
            "a size that is too large to be one",
            tar(&[pax(&[("size", "99999999999999999999")]), page()]),
            "an extended header is wrong",
        ),
        ("two names", tar(&[long(b'L', "a"), pax(&[("path", "b")]), page()]), "its headers say two names"),
        (
            "two extended headers",
            tar(&[pax(&[("path", "a")]), pax(&[("path", "b")]), page()]),
            "two headers of one kind",
        ),
        ("a header that belongs to nothing", tar(&[pax(&[("path", "a")])]), "a header at its end belongs to no entry"),
        ("one name for all", tar(&[pax_raw(b'g', &records), page()]), "a header gives all entries one name"),
        ("a record that reaches out", tar(&[pax_raw(b'x', b"99 path=a\n"), page()]), "an extended header is wrong"),
        ("a record without a length", tar(&[pax_raw(b'x', b"path=a\n"), page()]), "an extended header is wrong"),
        ("an extended header of 2 MiB", tar(&[pax(&[("comment", &"x".repeat(2 << 20))]), page()]), "larger than 1 MiB"),
        (
            "an extended header of 8 GiB",
            tar(&[pax(&[("path", "a")]).with(124, &big_endian(8 << 30)), page()]),
            "larger than 1 MiB",
        ),
        ("a folder with content", tar(&[entry(b'5', b"a/", b"x")]), "entry 1: it is damaged: it has content"),
        (
            "a link with content",
            tar(&[link(b'2', "a", "b").size(512), page()]),
            "entry 1: it is damaged: it has content",
        ),
    ]
}

fn bounds() -> Vec<Hostile> {
    let many: Vec<_> = (0..101).map(|number| entry(b'5', format!("{number}/").as_bytes(), b"")).collect();
    let headers: Vec<_> = (0..500).map(|_| pax_raw(b'g', &pax_records(&[("comment", "x")]))).collect();
    let zeros = tar(&[page(), file("zeros", vec![0; 20 << 20])]);
    vec![
        ("101 entries where there are 100", tar(&many), "it has more than 100 entries"),
        ("headers without entries", tar(&headers), "it has more than 100 entries"),
        (
            "a file of 2 MiB where there is 1",
            tar(&[page(), file("b", vec![b'x'; 2 << 20])]),
            "entry 2: the file has more than 1048576 bytes",
        ),
        ("a gzip bomb", gzip(&zeros), "it unpacks to more than 100 times its size"),
        ("a zstd bomb", zst(&zeros), "it unpacks to more than 100 times its size"),
        ("a bomb in a bomb", gzip(&gzip(&zeros)), "it is compressed, but what is in it is no tar"),
        ("a zip in gzip", gzip(&zip(&[zipped("a", "x")])), "it is compressed, but what is in it is no tar"),
        ("gzip that is cut off", cut(&gzip(&tar(&[page()])), 1), "it ends too early"),
        ("gzip with a wrong checksum", flipped(gzip(&tar(&[page()])), 8), "its gzip stream is wrong"),
        (
            "something behind gzip",
            [&*gzip(&tar(&[page()])), b"evil and more of it"].concat(),
            "its gzip stream is wrong or has an appendix",
        ),
        ("zstd that is cut off", cut(&zst(&tar(&[page()])), 1), "it ends too early"),
        ("something behind zstd", [&*zst(&tar(&[page()])), b"evil"].concat(), "something follows its last zstd frame"),
        ("nothing", Vec::new(), "it has no bytes"),
        ("a page", b"<!doctype html><title>no archive</title>".to_vec(), "it is neither a tar"),
        ("xz", b"\xfd7zXZ\0\0\x04".to_vec(), "it is compressed by xz, which is not taken"),
        (
            "nothing to publish",
            tar(&[file(".env", "secret"), entry(b'5', b"a/", b"")]),
            "it has no files to publish; 1 of its",
        ),
        (
            "an ignore file that is no text",
            tar(&[page(), file(".pinstoneignore", b"\xff")]),
            "entry 2: its `.pinstoneignore` is not usable",
        ),
        (
            "an ignore file with a wrong line",
            tar(&[page(), file(".pinstoneignore", "ok\na{b\n")]),
            "line 2 of its `.pinstoneignore`",
        ),
        (
            "an ignore file of 1 MiB",
            tar(&[page(), file(".pinstoneignore", vec![b'\n'; 1 << 20])]),
            "larger than 64 KiB",
        ),
        ("an ignore file that is a link", tar(&[page(), link(b'2', ".pinstoneignore", "index.html")]), "it is no file"),
        ("an ignore file that is a device", tar(&[page(), entry(b'3', b".pinstoneignore", b"")]), "it is no file"),
        ("an ignore file that is a folder", tar(&[page(), entry(b'5', b".pinstoneignore/", b"")]), "it is no file"),
        (
            "two ignore files",
            tar(&[file(".pinstoneignore", "*"), file("./.pinstoneignore", "")]),
            "another entry has the same",
        ),
    ]
}

/// Without the last `bytes`.
fn cut(archive: &[u8], bytes: usize) -> Vec<u8> {
    archive[..archive.len() - bytes].to_vec()
}

/// With one bit changed, so many bytes before the end.
fn flipped(mut archive: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = archive.len() - from_end;
    archive[at] ^= 1;
    archive
}

fn zips() -> Vec<Hostile> {
    let text = "<h1>hello</h1>".repeat(10);
    let good = || zipped("index.html", &text);
    let one = |change: fn(&mut Zip)| {
        let mut entry = zipped("index.html", "<h1>hello</h1>".repeat(10));
        change(&mut entry);
        zip(&[entry])
    };
    let two = |change: fn(&mut Zip)| {
        let mut second = stored("b.html", "second");
        change(&mut second);
        zip(&[zipped("index.html", "<h1>hello</h1>".repeat(10)), second])
    };
    let (entries, directory, start) = zip_parts(&[good()]);
    let length = directory.len() as u32;
    let with_end = |end: &[u8]| [&*entries, &directory, end].concat();
    let zip64 = |count: u64, start: u64| {
        let at = (entries.len() + directory.len()) as u64;
        let end = [zip64_end(count, length.into(), start, at), zip_end(1, length, u32::MAX, b"")].concat();
        with_end(&end)
    };
    vec![
        ("a zip whose name leads up", zip(&[zipped("../evil", "x")]), "entry 1: its name has a `..` segment"),
        ("a zip with a backslash", zip(&[zipped("a\\b", "x")]), "entry 1: its name has a backslash"),
        ("a zip with a NUL", zip(&[zipped("a\0b", "x")]), "entry 1: its name has a NUL"),
        ("a zip with one name twice", zip(&[good(), good()]), "entry 2: another entry has the same name"),
        (
            "two entries in one place",
            two(|entry| entry.offset = Some(0)),
            "entry 2: it is damaged: it overlaps another",
        ),
        (
            "an entry within another",
            two(|entry| entry.offset = Some(30)),
            "entry 2: it is damaged: it overlaps another",
        ),
        ("an entry in the directory", two(|entry| entry.packed_size += 100), "it reaches into what follows it"),
        ("an entry beyond the end", two(|entry| entry.offset = Some(u32::MAX - 1)), "it reaches into what follows it"),
        ("no entry where one should be", two(|entry| entry.offset = Some(100)), "it is damaged"),
        (
            "two names of one entry",
            one(|entry| entry.local_name[0] = b'X'),
            "entry 1: it is damaged: its two headers differ",
        ),
        ("a zip bomb", one(|entry| entry.size = 3 << 30), "it unpacks to more than 100 times its size"),
        ("more than it says", one(|entry| entry.size -= 1), "entry 1: it is damaged: it has more bytes than it says"),
        ("less than it says", one(|entry| entry.size += 1), "entry 1: it is damaged: it has fewer bytes than it says"),
        (
            "two sizes of what is stored",
            two(|entry| entry.size += 1),
            "entry 2: it is damaged: it is not compressed and has two",
        ),
        ("a wrong checksum", one(|entry| entry.crc ^= 1), "entry 1: it is damaged: its checksum is wrong"),
        ("compressed bytes that are none", one(|entry| entry.packed.fill(0xff)), "entry 1: it is damaged"),
        (
            "something behind the compressed bytes",
            one(|entry| {
                entry.packed.push(0);
                entry.packed_size += 1;
            }),
            "something follows its compressed bytes",
        ),
        ("an encrypted entry", one(|entry| entry.flags = 1), "it has encrypted entries"),
        ("an entry that is encrypted before its content", one(|entry| entry.local_flags = 1), "its two headers differ"),
        ("another method", one(|entry| entry.method = 12), "neither stored nor deflated"),
        (
            "a link out of a zip",
            zip(&[Zip { mode: Some(0o120_777), ..stored("a", "../../etc/passwd") }]),
            "entry 1: it is a link that leads out",
        ),
        (
            "a device in a zip",
            zip(&[Zip { mode: Some(0o020_666), ..stored("a", "") }]),
            "entry 1: it is a character device",
        ),
        ("a socket in a zip", zip(&[Zip { mode: Some(0o140_666), ..stored("a", "") }]), "entry 1: it is a socket"),
        ("a large size without one", one(|entry| entry.size = u32::MAX), "its large sizes are wrong"),
        (
            "a large size that is too short",
            one(|entry| {
                entry.size = u32::MAX;
                entry.extra = extra(1, &[1, 2, 3, 4]);
            }),
            "its large sizes are wrong",
        ),
        (
            "a large size of 16 EiB",
            one(|entry| {
                entry.size = u32::MAX;
                entry.extra = extra(1, &[0xff; 8]);
            }),
            "it unpacks to more than 100 times its size",
        ),
        (
            "an extra field that reaches out",
            one(|entry| {
                entry.size = u32::MAX;
                entry.extra = vec![1, 0, 99, 0, 1];
            }),
            "an extra field is longer than there is room",
        ),
        ("a large end that counts differently", zip64(2, start.into()), "its end contradicts itself"),
        ("a large end that starts elsewhere", zip64(1, 7), "its end contradicts itself"),
        ("more entries than there are", with_end(&zip_end(2, length, start, b"")), "its directory is wrong"),
        ("60,000 entries in 100 bytes", with_end(&zip_end(60_000, length, start, b"")), "it has more than 100 entries"),
        ("fewer entries than there are", zip_with_count(&[good(), stored("b", "x")], 1), "its directory is wrong"),
        ("two ends", with_end(&zip_end(1, length, start, &zip_end(0, 0, 0, b""))), "it has two ends"),
        ("no end", [&*entries, &directory].concat(), "it has no end"),
        ("something behind its end", [&*with_end(&zip_end(1, length, start, b"")), b"evil"].concat(), "it has no end"),
        (
            "something before it",
            [b"PK\x03\x04evil", &*with_end(&zip_end(1, length, start, b""))].concat(),
            "its end contradicts itself",
        ),
        ("a zip that is cut off", cut(&zip(&[good()]), 1), "it has no end"),
        (
            "one volume of several",
            with_end(&zip_end(1, length, start, b"")[..].with_disk()),
            "it is spread over several volumes",
        ),
        (
            "an ignore file in a zip that is no text",
            zip(&[good(), stored(".pinstoneignore", b"\xff")]),
            "is not usable: it is not UTF-8",
        ),
    ]
}

trait WithDisk {
    fn with_disk(&self) -> Vec<u8>;
}

impl WithDisk for [u8] {
    /// The end of a zip on its second volume.
    fn with_disk(&self) -> Vec<u8> {
        let mut end = self.to_vec();
        end[4] = 1;
        end
    }
}

fn zip_with_count(entries: &[Zip], count: u16) -> Vec<u8> {
    let (bytes, directory, start) = zip_parts(entries);
    let end = zip_end(count, directory.len() as u32, start, b"");
    [bytes, directory, end].concat()
}

#[tokio::test]
async fn hostile_archives_are_refused_and_leave_nothing() {
    let limits = Limits {
        files: 100,
        file_size: 1 << 20,
        plan_size: 64 << 10,
        archive_unpacked: 100 << 20,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let before = world.everything().await;
    let all: Vec<_> = [names(), places(), headers(), bounds(), zips()].concat();
    assert!(all.len() >= 120, "{}", all.len());
    let mut wrong = Vec::new();
    for (what, archive, told) in all {
        match world.publish(&archive).await {
            Err(ArchivePublishError::Archive(error)) if error.to_string().contains(told) => {}
            Err(error) => wrong.push(format!("{what}: told `{error}`, not `{told}`")),
            Ok(published) => wrong.push(format!("{what}: it was published: {published:?}")),
        }
        assert_eq!(world.everything().await, before, "{what} left something");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let good = world.publish(&tar(&[page()])).await.unwrap();
    assert_eq!((good.committed.files, good.new), (1, 1), "and a good one is taken");
    assert_ne!(world.everything().await, before, "what would be left can be seen");
}

#[tokio::test]
async fn a_cut_or_changed_archive_never_panics() {
    use crate::world::paths;
    let entries = [
        page(),
        long(b'L', &"long/".repeat(40)),
        entry(b'5', b"short", b""),
        pax(&[("path", "pax.txt"), ("mtime", "1.5")]),
        file("short", "content"),
        link(b'2', "link", "index.html"),
    ];
    let tars = tar(&entries);
    let zips = zip(&[
        zipped("index.html", "hello".repeat(50)),
        stored("b/c", "x"),
        Zip { mode: Some(0o120_777), ..stored("l", "b") },
    ]);
    for whole in [tars.clone(), gzip(&tars), zst(&tars), zips] {
        assert!(paths(&whole).is_ok(), "{:?}", paths(&whole));
        for length in 0..whole.len() {
            // The last bytes of a tar are zeros that nobody needs.
            if paths(&whole[..length]).is_ok() {
                assert!(whole[length..].iter().all(|byte| *byte == 0), "{length} of {}", whole.len());
            }
        }
        let mut changed = whole.clone();
        for at in 0..whole.len() {
            // A byte has one way to be wrong at a time, and its neighbours have the others.
            let change = [0x01, 0x80, 0xff][at % 3];
            changed[at] ^= change;
            let _ = paths(&changed);
            changed[at] ^= change;
        }
    }
}
