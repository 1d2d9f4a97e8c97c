"""How accurate a network is: on photographs, on rendered hands, on videos. Never imports torch."""
