"""The hand node as an rclpy lifecycle node; needs a sourced ROS 2."""
