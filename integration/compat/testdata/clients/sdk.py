"""Uses a cluster through Debian's python3-docker, and prints what it is told:
one line of JSON for each call. TestOtherClientsAnswerAsWithSwarm runs it
against Docker Swarm and against shoal, and compares.

DOCKER_HOST is the engine of h1, the one manager. How an answer is compared is
said with it, in the words of the tables.
"""

import json
import os
import time

import docker
from docker import errors, types

client = docker.from_env(timeout=60)
api = client.api


def note(step, call, *how, show=lambda result: result):
    """Makes a call and prints its answer, or the kind and text of its error."""
    said = {"step": step, "how": how}
    result = None
    try:
        result = call()
        said["result"] = show(result)
    except errors.APIError as e:
        said["error"] = "%s %s: %s" % (type(e).__name__, e.status_code, e.explanation)
    except errors.DockerException as e:
        said["error"] = "%s: %s" % (type(e).__name__, e)
    print(json.dumps(said), flush=True)
    return result


def attrs(result):
    """What there is to see of an object of the library, or of several."""
    if isinstance(result, list):
        return [attrs(r) for r in result]
    return result.attrs


def text(result):
    return result.decode() if isinstance(result, bytes) else b"".join(result).decode()


def await_true(what, cond):
    """Waits until cond holds; both clusters must come to it."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if cond():
            print(json.dumps({"step": what}), flush=True)
            return
        time.sleep(0.1)
    print(json.dumps({"step": what, "error": "never"}), flush=True)


def running(service, n, env=None):
    def cond():
        tasks = client.services.get(service).tasks(filters={"desired-state": "running"})
        up = [t for t in tasks if t["Status"]["State"] == "running"]
        if env:
            up = [t for t in up if env in t["Spec"]["ContainerSpec"].get("Env", [])]
        return len(up) == n == len(tasks)
    return cond


def plain(tasks):
    """Tasks in a fixed order, without what the scheduler is free to choose."""
    for t in tasks:
        t["NodeID"] = "ANY"
        for a in t.get("NetworksAttachments") or []:
            a["Addresses"] = None
    return sorted(tasks, key=lambda t: (t.get("Slot", 0), t["DesiredState"]))


def system():
    note("ping", client.ping)
    note("version", lambda: {k: client.version()[k] for k in ("Version", "ApiVersion", "MinAPIVersion")},
         "differs shoal speaks 1.24 and later", 'shoal "MinAPIVersion": ?"1.24"')
    note("info", lambda: client.info()["Swarm"]["LocalNodeState"])
    note("images", lambda: [i.tags for i in client.images.list()])
    note("swarm reload", client.swarm.reload)
    note("swarm attrs", lambda: {k: v for k, v in client.swarm.attrs.items() if k not in ("DefaultAddrPool",)})
    note("swarm init again", lambda: client.swarm.init(advertise_addr=os.environ["ADDR1"]))
    note("swarm join again", lambda: client.swarm.join([os.environ["ADDR1"]], "x"))
    note("swarm leave", client.swarm.leave)
    note("swarm update", lambda: client.swarm.update(task_history_retention_limit=4))
    note("swarm rotate", lambda: client.swarm.update(rotate_worker_token=True))
    note("swarm after", lambda: (client.swarm.reload(), client.swarm.attrs["Spec"]["Orchestration"])[1],
         "differs an update that leaves a field out keeps its value; Swarm takes it for 0", 'shoal "TaskHistoryRetentionLimit": ?4')
    note("unlock key", client.swarm.get_unlock_key)
    note("unlock", lambda: client.swarm.unlock("x"))


def containers():
    run = lambda **more: client.containers.run("web:1", ["/bin/echo", "one", "two"], **more)
    note("run", lambda: run(remove=True), show=text)
    note("run that fails", lambda: client.containers.run("web:1", ["/bin/exit", "3"], remove=True))
    note("run of no image", lambda: client.containers.create("nosuch:1"))
    c = note("run detached", lambda: client.containers.run(
        "web:1", ["/bin/sleep", "1000"], name="py", labels={"a": "b"}, detach=True), show=lambda c: c.name)
    note("run again", lambda: client.containers.create("web:1", name="py"))
    note("list", lambda: client.containers.list(filters={"label": "a=b"}), show=lambda l: [x.name for x in l])
    note("inspect", lambda: client.containers.get("py").attrs["Config"])
    note("exec", lambda: c.exec_run(["/bin/echo", "hello"]), show=lambda r: [r.exit_code, text(r.output)])
    note("exec that fails", lambda: c.exec_run(["/bin/exit", "4"]), show=lambda r: r.exit_code)
    note("exec of no program", lambda: c.exec_run(["/bin/nosuch"]), "ignore", show=lambda r: r.exit_code)
    note("stats", lambda: sorted(c.stats(stream=False)), "shape")
    note("top", lambda: c.top()["Titles"])
    note("put", lambda: c.put_archive("/tmp", archive()))
    note("get", lambda: c.get_archive("/tmp/x")[1]["name"])
    note("pause", c.pause)
    note("unpause", c.unpause)
    note("rename", lambda: c.rename("py2"))
    note("restart", lambda: c.restart(timeout=1))
    note("stop", lambda: c.stop(timeout=1))
    note("wait", c.wait)
    note("logs", lambda: c.logs(), show=text)
    note("diff", c.diff, "ignore")
    note("remove", c.remove)
    note("get of none", lambda: client.containers.get("py2"))
    note("volume", lambda: client.volumes.create("v", labels={"a": "b"}), show=lambda v: v.name)
    note("volume with", lambda: client.containers.run("web:1", ["/bin/cat", "/etc/hostname"], hostname="x", volumes=["v:/v"], remove=True), show=text)
    note("volumes", lambda: [v.name for v in client.volumes.list(filters={"label": "a=b"})])
    note("volume remove", lambda: client.volumes.get("v").remove())
    note("volume get of none", lambda: client.volumes.get("v"))


def archive():
    """A tar file with one small file."""
    import io
    import tarfile
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("x")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"hi"))
    return out.getvalue()


def secrets_and_configs():
    s = note("secret", lambda: client.secrets.create(name="s", data=b"value", labels={"a": "b"}), show=lambda s: [bool(s.id)])
    note("secret again", lambda: client.secrets.create(name="s", data=b"value"))
    note("secret get", lambda: client.secrets.get("s"), show=attrs)
    note("secret get of none", lambda: client.secrets.get("nosuch"))
    note("secret list", lambda: client.secrets.list(filters={"label": "a=b"}), show=attrs)
    note("secret list by a bad filter", lambda: client.secrets.list(filters={"colour": "red"}),
         "differs in lower case, as later engines say it", "shoal invalid filter 'colour'")
    c = note("config", lambda: api.create_config("c", b"value", {"a": "b"}), show=lambda c: ["ID" in c])
    note("config again", lambda: api.create_config("c", b"value"))
    note("config get", lambda: client.configs.get("c"), show=attrs)
    note("config get of none", lambda: client.configs.get("nosuch"))
    note("config list", lambda: client.configs.list(filters={"name": "c"}), show=attrs)
    return s.id, c["ID"]


def networks():
    n = note("network", lambda: client.networks.create("pynet", driver="overlay", attachable=True, labels={"a": "b"}), show=lambda n: n.name)
    note("network again", lambda: client.networks.create("pynet", driver="overlay"))
    note("network inspect", lambda: api.inspect_network("pynet"))
    note("network get of none", lambda: client.networks.get("nosuch"))
    note("network list", lambda: client.networks.list(names=["pynet"]), show=attrs)
    note("network scope", lambda: client.networks.get("pynet", scope="swarm"), show=lambda n: n.name)
    c = client.containers.run("web:1", ["/bin/sleep", "1000"], name="joined", detach=True)
    note("connect", lambda: n.connect(c, aliases=["x"]))
    note("connected", lambda: sorted((c.reload(), c.attrs["NetworkSettings"]["Networks"])[1]))
    note("disconnect", lambda: n.disconnect(c))
    note("disconnect again", lambda: n.disconnect(c), "more")
    c.remove(force=True)
    note("own network", lambda: client.networks.create("own", driver="bridge"), show=lambda n: n.name)
    note("own network remove", lambda: client.networks.get("own").remove())
    return n


def nodes():
    note("nodes", lambda: client.nodes.list(filters={"role": "worker"}), show=attrs)
    note("node", lambda: client.nodes.get("h2"), show=attrs)
    note("node get of none", lambda: client.nodes.get("nosuch"))
    node = client.nodes.get("h2")
    spec = dict(node.attrs["Spec"], Labels={"zone": "a"})
    note("node update", lambda: node.update(spec))
    note("node update out of sequence", lambda: node.update(spec))
    note("node after", lambda: client.nodes.get("h2").attrs["Spec"])
    note("node update back", lambda: client.nodes.get("h2").update({"Role": "worker", "Availability": "active"}))
    note("node remove", lambda: api.remove_node("h2"), "more")


def services(secret, config):
    s = note("service", lambda: client.services.create(
        "web:1", name="pyweb", labels={"a": "b"}, env=["A=1"], hostname="{{.Task.Name}}", networks=["pynet"],
        secrets=[types.SecretReference(secret, "s")], configs=[types.ConfigReference(config, "c", filename="/etc/c")],
        mounts=[types.Mount("/scratch", None, type="tmpfs")], constraints=["node.role==manager"], stop_grace_period=2 * 10**9,
        endpoint_spec=types.EndpointSpec(ports={18090: 8080}), mode=types.ServiceMode("replicated", replicas=2),
        resources=types.Resources(mem_reservation=8 << 20, cpu_limit=500000000), restart_policy=types.RestartPolicy("any"),
        healthcheck=types.Healthcheck(test=["CMD", "/bin/check", "http://127.0.0.1:8080/"], interval=10**9, retries=3),
        update_config=types.UpdateConfig(parallelism=2, monitor=500 * 10**6)), show=lambda s: s.name)
    note("service again", lambda: client.services.create("web:1", name="pyweb"))
    await_true("two running", running("pyweb", 2))
    note("service get", lambda: client.services.get("pyweb"), show=attrs)
    note("service list", lambda: client.services.list(filters={"name": "pyweb"}), show=attrs)
    note("service with defaults", lambda: client.services.get("pyweb", insert_defaults=True).attrs["Spec"])
    note("tasks", lambda: plain(client.services.get("pyweb").tasks()))
    note("task", lambda: api.inspect_task(s.tasks()[0]["ID"])["Spec"])
    note("scale", lambda: client.services.get("pyweb").scale(3))
    await_true("three running", running("pyweb", 3))
    note("update", lambda: client.services.get("pyweb").update(image="web:1", env=["A=2"]))
    await_true("new ones running", running("pyweb", 3, "A=2"))
    await_true("update done", lambda: client.services.get("pyweb").attrs.get("UpdateStatus", {}).get("State") == "completed")
    note("after the update", lambda: client.services.get("pyweb"), show=attrs)
    note("update out of sequence", lambda: s.update(image="web:1", env=["A=3"]))
    note("force", lambda: client.services.get("pyweb").force_update())
    note("logs", lambda: client.services.get("pyweb").logs(stdout=True, stderr=True, tail=5), "sorted", show=text)
    note("secret in use", lambda: api.remove_secret(secret))
    note("get of none", lambda: client.services.get("nosuch"))
    note("bad filter", lambda: client.services.list(filters={"colour": "red"}),
         "differs in lower case, as later engines say it", "shoal invalid filter 'colour'")
    note("bad image", lambda: client.services.create("web:1:2", name="x"))
    note("bad constraint", lambda: client.services.create("web:1", name="x", constraints=["nonsense"]), "more")
    note("remove", client.services.get("pyweb").remove)
    note("remove again", s.remove)
    note("task of none", lambda: api.inspect_task("nosuch"))

    note("talker", lambda: client.services.create(
        "web:1", command=["/bin/echo"], args=["one", "two"], name="talker", restart_policy=types.RestartPolicy("none")), show=lambda s: s.name)
    await_true("said", lambda: [t["Status"]["State"] for t in client.services.get("talker").tasks()] == ["complete"])
    note("said", lambda: client.services.get("talker").logs(stdout=True), show=text)
    note("followed", lambda: text(api.service_logs("talker", stdout=True, tail=1)))
    note("talker remove", lambda: client.services.get("talker").remove())


def clean(secret, config, network):
    note("secret remove", lambda: client.secrets.get(secret).remove())
    note("secret remove again", lambda: api.remove_secret(secret))
    note("config remove", lambda: client.configs.get(config).remove())
    note("config remove again", lambda: api.remove_config(config))

    def gone():
        try:
            network.remove()
        except errors.APIError:
            return False
        return True
    await_true("network removed", gone)


def events(begin):
    seen = set()
    for e in client.events(since=begin, until=time.time(), decode=True, filters={"type": ["service", "secret", "config"]}):
        seen.add("%s %s %s" % (e["Type"], e["Action"], e["Actor"]["Attributes"].get("name")))
    note("events", lambda: "\n".join(sorted(seen)))


def main():
    begin = time.time()
    system()
    containers()
    secret, config = secrets_and_configs()
    network = networks()
    nodes()
    services(secret, config)
    clean(secret, config, network)
    events(begin)


main()
