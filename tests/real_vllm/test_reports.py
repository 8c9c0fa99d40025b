"""The router's own endpoints, with the keys and types of mvllm 0.1.0, over a real fleet."""

import datetime
import time

import pytest

from asks import CHAT, MODEL, chat
from servers import SEATS, occupied
from waiting import until

HEALTH = {
    "status": str,
    "health_score": float,
    "total_servers": int,
    "healthy_servers": int,
    "unhealthy_servers": int,
    "servers": [
        {
            "url": str,
            "healthy": bool,
            "health_status": str,
            "last_check": str,
            "consecutive_failures": int,
            "success_rate": float,
            "avg_response_time": float,
            "last_response_time": float,
            "total_checks": int,
            "supported_models": [str],
            "models_last_updated": str,
        }
    ],
    "config": {
        "health_check_enabled": bool,
        "health_check_interval": int,
        "min_success_rate": float,
        "max_response_time": float,
    },
}

LOAD_STATS = {
    "servers": [
        {
            "url": str,
            "current_load": int,
            "max_capacity": int,
            "available_capacity": int,
            "utilization_percent": float,
            "status": bool,
            "health_status": str,
            "last_updated": str,
            "detailed_metrics": {
                "num_requests_running": int,
                "num_requests_waiting": int,
                "gpu_cache_usage_perc": float,
                "process_max_fds": int,
            },
        }
    ],
    "summary": {
        "total_servers": int,
        "healthy_servers": int,
        "total_active_load": int,
        "total_capacity": int,
        "overall_utilization_percent": float,
    },
}

MODELS = {
    "object": str,
    "data": [
        {
            "id": str,
            "object": str,
            "created": int,
            "owned_by": str,
            "permission": [],
            "root": str,
            "parent": type(None),
        }
    ],
}


def shape(value):
    """Keys and types; the elements of a list must be alike."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        shapes = [shape(inner) for inner in value]
        assert all(each == shapes[0] for each in shapes)
        return shapes[:1]
    return type(value)


def assert_is_now(timestamp):
    """Local time without a zone, with microseconds, as 0.1.0 wrote it; and not of long ago."""
    moment = datetime.datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%f")
    assert abs(datetime.datetime.now() - moment) < datetime.timedelta(minutes=1)


def test_health_has_the_keys_and_types_of_the_contract_and_is_true(router, servers):
    health = router.get("/health")
    assert shape(health) == HEALTH
    assert (health["status"], health["health_score"]) == ("healthy", 1.0)
    assert (health["total_servers"], health["healthy_servers"]) == (2, 2)
    assert health["unhealthy_servers"] == 0
    assert [each["url"] for each in health["servers"]] == [server.url for server in servers]
    for each in health["servers"]:
        assert (each["healthy"], each["health_status"]) == (True, "healthy")
        assert each["supported_models"] == [MODEL]
        assert 0 < each["last_response_time"] < 10
        assert_is_now(each["last_check"])
        assert_is_now(each["models_last_updated"])


def test_load_stats_have_the_keys_and_types_of_the_contract(router, servers):
    stats = router.get("/load-stats")
    assert shape(stats) == LOAD_STATS
    for each, server in zip(stats["servers"], servers, strict=True):
        assert each["url"] == server.url
        assert each["detailed_metrics"]["process_max_fds"] == server.metric("process_max_fds")
        assert_is_now(each["last_updated"])


def test_server_models_have_the_keys_and_types_of_the_contract(router, servers):
    models = router.get("/server-models")
    entry = {"supported_models": [str], "models_last_updated": str, "healthy": bool}
    assert shape(models) == {
        "servers": {server.url: entry for server in servers},
        "total_servers": int,
        "healthy_servers": int,
    }
    assert (models["total_servers"], models["healthy_servers"]) == (2, 2)
    for each in models["servers"].values():
        assert (each["healthy"], each["supported_models"]) == (True, [MODEL])
        assert_is_now(each["models_last_updated"])


def test_the_models_have_the_keys_and_types_of_the_contract(router):
    models = router.get("/v1/models")
    assert shape(models) == MODELS
    [model] = models["data"]
    assert (models["object"], model["object"]) == ("list", "model")
    assert (model["id"], model["root"], model["owned_by"]) == (MODEL, MODEL, "vllm-router")
    assert abs(time.time() - model["created"]) < 24 * 3600


def test_the_root_says_who_answers(router):
    root = router.get("/")
    assert shape(root) == {"service": str, "version": str, "status": str}
    assert (root["service"], root["status"]) == ("vLLM Router", "running")


@pytest.mark.parametrize("busy", [0, 1])
def test_load_that_others_put_on_a_server_is_seen_and_avoided(router, servers, busy):
    """Its requests come past the router: only /metrics can tell of them."""
    idle = 1 - busy
    loads = [3, 0] if busy == 0 else [0, 3]
    with occupied(servers[busy], 3):
        router.wait_until_sees(loads)
        stats = router.get("/load-stats")
        assert stats["servers"][busy]["available_capacity"] == 13
        assert stats["servers"][busy]["utilization_percent"] == pytest.approx(3 / 16 * 100)
        assert stats["servers"][busy]["detailed_metrics"]["num_requests_running"] == 3
        assert 0 < stats["servers"][busy]["detailed_metrics"]["gpu_cache_usage_perc"] <= 1
        assert stats["summary"]["total_active_load"] == 3

        before = servers[idle].finished
        for _ in range(5):
            router.wait_until_sees(loads)
            assert router.post(CHAT, chat()).status_code == 200
        until(lambda: servers[idle].finished == before + 5, "the idle server got all requests")


def test_requests_that_wait_in_a_server_are_seen(router, servers):
    with occupied(servers[0], SEATS + 4):
        router.wait_until_sees([SEATS + 4, 0])
        metrics = router.get("/load-stats")["servers"][0]["detailed_metrics"]
        assert metrics["num_requests_running"] == SEATS
        assert metrics["num_requests_waiting"] == 4
