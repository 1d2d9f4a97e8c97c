"""The rclpy lifecycle node.

configure loads the model and makes the publishers, activate subscribes and starts the inference,
deactivate and cleanup undo them. rclpy's own lifecycle manages publishers only, so subscriptions
and timers are made and destroyed here.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Any

import rclpy
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

from hand_perception.errors import HandPerceptionError
from hand_perception.node import (
    TICK_PERIOD,
    HandNode,
    ReconstructorWithTopology,
    load_reconstructor,
)
from hand_perception.parameters import NodeParameters, ParameterError
from hand_perception.ros.types import TYPES, message_class, service_class
from hand_perception.topics import NODE_NAME, SERVICES, Input, Output, Service, node_outputs

# Depth 1: the newest image is the one to work on.
_INPUT_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=qos_profile_sensor_data.reliability,
    durability=DurabilityPolicy.VOLATILE,
)


Transition = Callable[["HandPerceptionNode", State], TransitionCallbackReturn]


def _reporting(transition: Transition) -> Transition:
    """Log why a transition fails: rclpy drops the exception and keeps only the return code."""

    @wraps(transition)
    def guarded(self: HandPerceptionNode, state: State) -> TransitionCallbackReturn:
        try:
            return transition(self, state)
        except HandPerceptionError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    return guarded


class HandPerceptionNode(LifecycleNode):
    """``hand_perception``: images and CameraInfo in; meshes, keypoints, angles, TF and markers out.

    load: gives the network that the parameters name.
    """

    def __init__(
        self,
        load: Callable[[NodeParameters], ReconstructorWithTopology] = load_reconstructor,
        **options: Any,
    ) -> None:
        super().__init__(NODE_NAME, **options)
        self._load = load
        self._reconstructor = None
        self._core: HandNode | None = None
        self._outputs: dict[Output, Any] = {}
        self._inputs: dict[Input, Any] = {}
        self._timer = None
        for spec in fields(NodeParameters):
            if not self.has_parameter(spec.name):  # use_sim_time is every node's
                self.declare_parameter(spec.name, _declared(spec.default), _descriptor(spec))
        for service in SERVICES:
            kind = service_class(service.type_name)
            self.create_service(kind, service.name, self._answer_to(service))
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)

    # -- transitions -------------------------------------------------------------------------

    @_reporting
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        parameters = self._snapshot()
        # All or nothing: a failed configuration leaves no publisher behind.
        kinds = {o: message_class(o.type_name) for o in node_outputs(parameters)}
        self.get_logger().info(f"loading model {parameters.model}")
        self._reconstructor = self._load(parameters)
        for output, kind in kinds.items():
            self._outputs[output] = self.create_lifecycle_publisher(
                kind,
                output.topic,
                _output_qos(output),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        self.get_logger().info(f"configured: {self._reconstructor.identity}")
        return TransitionCallbackReturn.SUCCESS

    @_reporting
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        result = super().on_activate(state)  # enables the publishers
        if result != TransitionCallbackReturn.SUCCESS:
            return result
        parameters = self._snapshot()
        self._core = HandNode(
            parameters,
            self._reconstructor,
            TYPES,
            self,
            self.get_logger(),
            now_ns=lambda: self.get_clock().now().nanoseconds,
        )
        # By the wall's clock: a simulated one may stand still, and that is worth a diagnostic.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(TICK_PERIOD, self._core.tick, clock=steady)
        self.get_logger().info(f"active on {self._core.image_topics}")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: State) -> TransitionCallbackReturn:
        """After a transition that raised: back to unconfigured, from where all can be retried."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        self._stop()
        super().destroy_node()

    def _stop(self) -> None:
        """End inputs and inference; may be called in any state, any number of times."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        for source in list(self._inputs):
            self.unsubscribe(source)
        if self._core is not None:
            self._core.stop()
            self._core = None

    def _release(self) -> None:
        for publisher in self._outputs.values():
            self.destroy_publisher(publisher)
        self._outputs.clear()
        self._reconstructor = None

    # -- the core's transport ----------------------------------------------------------------

    def publish(self, output: Output, message: Any) -> None:
        # At a shutdown by signal the context ends while the last frame is at work.
        if self.context.ok():
            self._outputs[output].publish(message)

    def has_listener(self, output: Output) -> bool:
        return self.context.ok() and self._outputs[output].get_subscription_count() > 0

    def subscribe(self, source: Input, callback: Callable[[Any], None]) -> None:
        self._inputs[source] = self.create_subscription(
            message_class(source.type_name),
            source.topic,
            callback,
            _INPUT_QOS,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def unsubscribe(self, source: Input) -> None:
        self.destroy_subscription(self._inputs.pop(source))

    def resolve(self, topic: str) -> str:
        return self.resolve_topic_name(topic)

    # -- services ----------------------------------------------------------------------------

    def _answer_to(self, service: Service) -> Callable[[Any, Any], Any]:
        def answer(request: Any, response: Any) -> Any:
            if self._core is None:
                response.message = "the node is not active: configure and activate it first"
            else:
                response.success, response.message = self._core.call(service, request)
            return response

        return answer

    # -- parameters --------------------------------------------------------------------------

    def change_parameters(self, values: Mapping[str, Any]) -> None:
        self.set_parameters([Parameter(name, value=value) for name, value in values.items()])

    def _snapshot(self) -> NodeParameters:
        names = [spec.name for spec in fields(NodeParameters)]
        values = {name: self.get_parameter(name).value for name in names}
        return NodeParameters().changed(values)

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        values = _own(changes)
        try:
            self._snapshot().changed(values)
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        settled = NodeParameters().settled_names_in(values)
        if settled and self._core is not None:
            reason = f"{', '.join(settled)} cannot change while the node is active: deactivate and "
            return SetParametersResult(successful=False, reason=f"{reason}clean it up first")
        return SetParametersResult(successful=True)

    def _take_parameters(self, changes: list[Parameter]) -> None:
        if self._core is not None and _own(changes):
            self._core.parameters = self._snapshot()


def _own(changes: list[Parameter]) -> dict[str, Any]:
    """Those of the parameters that are ours; others are ROS's (use_sim_time, QoS overrides)."""
    names = {spec.name for spec in fields(NodeParameters)} - {"use_sim_time"}
    return {change.name: change.value for change in changes if change.name in names}


def _declared(default: Any) -> Any:
    """ROS cannot tell of what an empty list is: one empty name stands for none."""
    return [""] if default == () else default


def _descriptor(spec: Any) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=spec.metadata["description"])
    limits = spec.metadata["limits"]
    if limits and isinstance(spec.default, float):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=limits[0], to_value=limits[1], step=0.0)
        ]
    elif limits:
        descriptor.integer_range = [IntegerRange(from_value=limits[0], to_value=limits[1], step=1)]
    return descriptor


def _output_qos(output: Output) -> QoSProfile:
    latched = DurabilityPolicy.TRANSIENT_LOCAL if output.latched else DurabilityPolicy.VOLATILE
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=latched,
    )


def main(
    arguments: list[str] | None = None,
    *,
    autostart: bool = False,
    load: Callable[[NodeParameters], ReconstructorWithTopology] = load_reconstructor,
) -> int:
    """Spin the node until a signal. autostart: configure and activate at once. load: see the node.

    Returns 1 when it should start by itself and could not.
    """
    # rclpy's handlers, set by init, end the spinning. When they are gone again a late second
    # signal, as launch sends one, must not cut the clean-up short.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    rclpy.init(args=arguments)
    node = HandPerceptionNode(load)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if autostart and not _start(node):
            return 1
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # A signal that ends the context between two of the executor's steps shows as an error.
        if rclpy.ok():
            raise
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _start(node: HandPerceptionNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == success and node.trigger_activate() == success


if __name__ == "__main__":
    sys.exit(main())
