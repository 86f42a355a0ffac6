// SPDX-FileCopyrightText: 2026 The proton_stream authors
// SPDX-License-Identifier: Apache-2.0

use super::*;

fn wishes(list: &[(&str, &str)]) -> Vec<Wish> {
    let wish = |(file, value): &(&str, &str)| Wish {
        controller: b"any".to_vec(),
        file: file.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
        key: file.as_bytes().to_vec(),
    };
    list.iter().map(wish).collect()
}

fn translated(version: Version, list: &[(&str, &str)]) -> Result<Vec<String>, Error> {
    let wishes = wishes(list);
    let writes = translate(version, &wishes.iter().collect::<Vec<_>>())?;
    let text = |write: &Write| {
        format!("{}={}", write.file.to_string_lossy(), String::from_utf8_lossy(&write.value))
    };
    Ok(writes.iter().map(text).collect())
}

fn refusal(version: Version, list: &[(&str, &str)]) -> String {
    let error = translated(version, list).expect_err("refused");
    assert_eq!((error.step, error.errno), (Step::Cgroup, libc::EINVAL));
    String::from_utf8(error.detail).expect("text")
}

#[test]
fn names_of_version_1_become_those_of_version_2() {
    for (given, becomes) in [
        (("memory.limit_in_bytes", "268435456"), "memory.max=268435456"),
        (("memory.limit_in_bytes", "-1"), "memory.max=max"),
        (("memory.limit_in_bytes", "256M"), "memory.max=256M"),
        (("memory.soft_limit_in_bytes", "1G"), "memory.high=1G"),
        (("memory.memsw.limit_in_bytes", "-1"), "memory.swap.max=max"),
        (("cpu.cfs_quota_us", "50000"), "cpu.max=50000 100000"),
        (("cpu.cfs_quota_us", "-1"), "cpu.max=max 100000"),
        (("cpu.cfs_period_us", "20000"), "cpu.max=max 20000"),
        (("cpu.cfs_burst_us", "1000"), "cpu.max.burst=1000"),
        (("cpu.shares", "1024"), "cpu.weight=100"),
        (("cpu.shares", "512"), "cpu.weight=50"),
        (("cpu.shares", "2"), "cpu.weight=1"),
        (("cpu.shares", "262144"), "cpu.weight=10000"),
        (("pids.max", "64"), "pids.max=64"),
        (("blkio.weight", "500"), "io.weight=100"),
        (("blkio.weight", "10"), "io.weight=2"),
        (("blkio.bfq.weight", "300"), "io.bfq.weight=300"),
        (("blkio.throttle.read_bps_device", "8:0 1048576"), "io.max=8:0 rbps=1048576"),
        (("blkio.throttle.write_iops_device", "8:0 0"), "io.max=8:0 wiops=max"),
        (("cpuset.cpus", "0-1"), "cpuset.cpus=0-1"),
        (("hugetlb.2MB.limit_in_bytes", "-1"), "hugetlb.2MB.max=max"),
        (("memory.max", "5M"), "memory.max=5M"),
        (("cpu.max", "1000 2000"), "cpu.max=1000 2000"),
    ] {
        assert_eq!(translated(Version::V2, &[given]).expect("it has one"), [becomes], "{given:?}");
    }
    assert!(translated(Version::V2, &[("memory.use_hierarchy", "1")]).expect("known").is_empty());
}

#[test]
fn period_and_quota_become_one_value_in_either_order() {
    let (period, quota) = (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000"));
    for list in [[period, quota], [quota, period]] {
        let writes = translated(Version::V2, &list).expect("they have one");
        assert_eq!(writes, ["cpu.max=50000 100000"]);
    }
}

#[test]
fn memory_and_swap_together_become_their_difference_and_their_sum() {
    let (memory, both) =
        (("memory.limit_in_bytes", "64M"), ("memory.memsw.limit_in_bytes", "100663296"));
    for list in [[memory, both], [both, memory]] {
        let writes = translated(Version::V2, &list).expect("they have one");
        assert!(writes.contains(&"memory.swap.max=33554432".to_owned()), "{writes:?}");
    }
    assert!(refusal(Version::V2, &[both]).contains("give memory.limit_in_bytes as well"));
    let less = ("memory.memsw.limit_in_bytes", "1M");
    assert!(refusal(Version::V2, &[memory, less]).contains("less than"));

    let (memory, swap) = (("memory.max", "64M"), ("memory.swap.max", "32M"));
    let writes = translated(Version::V1, &[memory, swap]).expect("they have one");
    assert_eq!(writes, ["memory.limit_in_bytes=64M", "memory.memsw.limit_in_bytes=100663296"]);
    assert!(refusal(Version::V1, &[swap]).contains("give memory.max as well"));
    assert!(refusal(Version::V1, &[swap, memory]).contains("before memory.max"));
}

#[test]
fn names_of_version_2_become_those_of_version_1() {
    for (given, becomes) in [
        (("memory.max", "max"), &["memory.limit_in_bytes=-1"][..]),
        (("memory.max", "64M"), &["memory.limit_in_bytes=64M"]),
        (("memory.swap.max", "max"), &["memory.memsw.limit_in_bytes=-1"]),
        (("cpu.max", "50000 100000"), &["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"]),
        (("cpu.max", "max 100000"), &["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=-1"]),
        (("cpu.max", "50000"), &["cpu.cfs_quota_us=50000"]),
        (("cpu.weight", "100"), &["cpu.shares=1024"]),
        (("cpu.weight", "1"), &["cpu.shares=10"]),
        (("pids.max", "max"), &["pids.max=max"]),
        (("io.weight", "default 100"), &["blkio.weight=500"]),
        (
            ("io.max", "8:0 rbps=5 wiops=max"),
            &["blkio.throttle.read_bps_device=8:0 5", "blkio.throttle.write_iops_device=8:0 0"],
        ),
        (("hugetlb.2MB.max", "0"), &["hugetlb.2MB.limit_in_bytes=0"]),
        (("cpu.shares", "512"), &["cpu.shares=512"]),
    ] {
        assert_eq!(translated(Version::V1, &[given]).expect("it has one"), becomes, "{given:?}");
    }
}

#[test]
fn a_name_without_a_counterpart_is_refused_in_words() {
    for name in [
        "memory.swappiness",
        "memory.kmem.limit_in_bytes",
        "memory.oom_control",
        "cpuacct.usage",
        "blkio.weight_device",
        "devices.deny",
        "net_cls.classid",
        "cpu.rt_runtime_us",
        "freezer.state",
    ] {
        let sentence = refusal(Version::V2, &[(name, "1")]);
        assert_eq!(sentence, format!("{name}: no counterpart on cgroup v2"));
    }
    for name in ["memory.high", "memory.low", "cpu.weight.nice", "io.latency"] {
        let sentence = refusal(Version::V1, &[(name, "1")]);
        assert_eq!(sentence, format!("{name}: no counterpart on cgroup v1"));
    }
}

#[test]
fn a_value_that_can_not_be_translated_is_refused_in_words() {
    for (name, value) in [
        ("cpu.shares", "many"),
        ("blkio.weight", ""),
        ("blkio.throttle.read_bps_device", "8:0"),
        ("memory.memsw.limit_in_bytes", "garbage"),
    ] {
        assert!(refusal(Version::V2, &[(name, value)]).starts_with(name));
    }
    for (name, value) in [
        ("cpu.weight", "many"),
        ("io.max", "8:0 bytes=3"),
        ("io.max", ""),
        ("cpu.max", "1 2 3"),
        ("io.weight", "8:0 100"),
    ] {
        assert!(refusal(Version::V1, &[(name, value)]).starts_with(name));
    }
}
