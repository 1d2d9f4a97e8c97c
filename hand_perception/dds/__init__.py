"""ROS 2's wire protocol without ROS 2: Cyclone DDS and message definitions, from PyPI."""
